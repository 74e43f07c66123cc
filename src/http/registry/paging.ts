/** How lists on /v2 are paged here. */

import type { App } from "../../app.ts";
import { type Page, parsePage } from "../../oci/page.ts";

/** `n` and `last` of a list. Both the default and the most are V2_PAGINATION_SIZE, as in Quay. */
export function pageOf(app: Pick<App, "config">, query: URLSearchParams): Page {
  const last = query.get("last") ?? query.get("next_page") ?? undefined;
  const limit = app.config.V2_PAGINATION_SIZE;
  return parsePage({ n: query.get("n") ?? undefined, last }, { limitDefault: limit, limitMax: limit });
}
