/** /v2/_catalog: the repositories the caller may see, sorted and paged. */

import { listVisibleRepositories } from "../../domain/repository/list.ts";
import { linkHeader } from "../../oci/page.ts";
import { pageOf } from "./paging.ts";
import type { MethodTable, RegistryContext } from "./routes.ts";

export const catalogRoutes: MethodTable<"catalog"> = { GET: { needs: "caller", handle: catalog } };

async function catalog({ app, caller, query }: RegistryContext<"catalog">): Promise<Response> {
  const page = pageOf(app, query);
  const { paths, more } = await listVisibleRepositories(app, caller, page);
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (more) headers.Link = linkHeader("/v2/_catalog", { n: page.limit, last: paths.at(-1) });
  return new Response(JSON.stringify({ repositories: paths }), { headers });
}
