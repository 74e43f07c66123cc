/** /v2/<name>/referrers/<digest>. Spec: distribution-spec "Listing Referrers". */

import { listReferrers, type ReferrerDescriptor } from "../../domain/referrer/referrer.ts";
import { RegistryError } from "../../errors.ts";
import { parseDigest } from "../../oci/digest.ts";
import { OCI_INDEX } from "../../oci/media-types.ts";
import { linkHeader } from "../../oci/page.ts";
import { pageOf } from "./paging.ts";
import type { MethodTable, RegistryContext, RepositoryContext } from "./routes.ts";

export const referrerRoutes: MethodTable<"referrers"> = {
  // Never 404 for what is not there: a client would take that for a registry without this API.
  GET: { needs: "pull", handle: listReferrersRoute, whenAbsent: (context) => answer(context, [], undefined) },
};

async function listReferrersRoute(context: RepositoryContext<"referrers">): Promise<Response> {
  const { app, repository, route, query } = context;
  const subject = parseDigest(route.digest);
  const page = pageOf(app, query);
  const artifactType = artifactTypeOf(query);
  const { referrers, next } = await listReferrers(app, repository, { subject, artifactType, ...page });
  const path = `/v2/${repository.path}/referrers/${subject}`;
  const link = next === undefined ? undefined : linkHeader(path, { artifactType, n: page.limit, last: next });
  return answer(context, referrers, link);
}

function answer(
  { app, query, route }: RegistryContext<"referrers">,
  manifests: readonly ReferrerDescriptor[],
  link: string | undefined,
): Response {
  if (!app.config.FEATURE_REFERRERS_API) throw new RegistryError("not_found");
  parseDigest(route.digest);
  const headers: Record<string, string> = { "Content-Type": OCI_INDEX };
  if (artifactTypeOf(query) !== undefined) headers["OCI-Filters-Applied"] = "artifactType";
  if (link !== undefined) headers.Link = link;
  return new Response(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }), { headers });
}

function artifactTypeOf(query: URLSearchParams): string | undefined {
  return query.get("artifactType") || undefined;
}
