/** Signing in as a browser does it, and looking into the action log. */

import { type Api, type ApiAnswer, ApiClient } from "./harness.ts";

/** Signs in as a visitor with these words, and gives the answer. */
export async function signInAs(api: Api, username: string, secret: string): Promise<ApiAnswer> {
  return (await api.nobody()).post("/signin", { username, password: secret });
}

/** The client that an answer which began a session makes of its browser. */
export function clientOf(api: Api, answer: ApiAnswer): ApiClient {
  const csrf = answer.headers.get("x-next-csrf-token");
  if (csrf === null) throw new Error(`no session was begun: ${answer.status} ${answer.text}`);
  return new ApiClient(api.berth.url, { Cookie: cookieOf(answer), "X-CSRF-Token": csrf });
}

/** `name=value` of the cookie that an answer sets. */
export function cookieOf(answer: Pick<ApiAnswer, "headers">): string {
  return answer.headers.get("set-cookie")?.split(";")[0] ?? "";
}

/** Entries of a kind whose metadata holds this text. */
export async function countEntries(api: Api, kind: string, text: string): Promise<number> {
  const rows = await api.app.db.sql<{ metadata: string }>`select metadata from action_log where kind = ${kind}`;
  return rows.filter(({ metadata }) => metadata.includes(text)).length;
}

/** Metadata of the entries of a kind, oldest first. */
export async function entriesOf(api: Api, kind: string): Promise<unknown[]> {
  const rows = await api.app.db.sql<{ metadata: string }>`
    select metadata from action_log where kind = ${kind} order by id`;
  return rows.map(({ metadata }) => JSON.parse(metadata));
}
