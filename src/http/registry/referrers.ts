/** /v2/<name>/referrers/<digest>. Spec: distribution-spec "Listing Referrers". */

import { listReferrers } from "../../domain/referrer/referrer.ts";
import { RegistryError } from "../../errors.ts";
import { parseDigest } from "../../oci/digest.ts";
import { OCI_INDEX } from "../../oci/media-types.ts";
import { linkHeader } from "../../oci/page.ts";
import { pageOf } from "./paging.ts";
import type { MethodTable, RepositoryContext } from "./routes.ts";

export const referrerRoutes: MethodTable<"referrers"> = { GET: { needs: "pull", handle: listReferrersRoute } };

async function listReferrersRoute({
  app,
  repository,
  route,
  query,
}: RepositoryContext<"referrers">): Promise<Response> {
  if (!app.config.FEATURE_REFERRERS_API) throw new RegistryError("not_found");
  const subject = parseDigest(route.digest);
  const artifactType = query.get("artifactType") || undefined;
  const page = pageOf(app, query);
  const { referrers, next } = await listReferrers(app, repository, { subject, artifactType, ...page });
  const headers: Record<string, string> = { "Content-Type": OCI_INDEX };
  if (artifactType !== undefined) headers["OCI-Filters-Applied"] = "artifactType";
  if (next !== undefined) {
    const path = `/v2/${repository.path}/referrers/${subject}`;
    headers.Link = linkHeader(path, { artifactType, n: page.limit, last: next });
  }
  return new Response(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: referrers }), { headers });
}
