/** /v2/<name>/tags/list, sorted and paged. Spec: distribution-spec "Listing Tags"; `?asof=` is ours. */

import { listTagsAsOf, parseAsOf } from "../../domain/tag/as-of.ts";
import { listTags } from "../../domain/tag/tag.ts";
import { linkHeader } from "../../oci/page.ts";
import { pageOf } from "./paging.ts";
import type { MethodTable, RepositoryContext } from "./routes.ts";

export const tagRoutes: MethodTable<"tags"> = { GET: { needs: "pull", handle: listTagsRoute } };

async function listTagsRoute({ app, repository, query }: RepositoryContext<"tags">): Promise<Response> {
  const page = pageOf(app, query);
  const asOf = query.get("asof");
  const asOfMs = asOf === null ? undefined : parseAsOf(asOf, app.clock.nowMs());
  const { names, more } =
    asOfMs === undefined
      ? await listTags(app, repository, page)
      : await listTagsAsOf(app, repository, { ...page, asOfMs });
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (more) {
    headers.Link = linkHeader(`/v2/${repository.path}/tags/list`, {
      n: page.limit,
      last: names.at(-1),
      // Every page of one list is of the same instant.
      asof: asOfMs === undefined ? undefined : new Date(asOfMs).toISOString(),
    });
  }
  return new Response(JSON.stringify({ name: repository.path, tags: names }), { headers });
}
