/**
 * What the pages of a registry ask for all day: a page of repositories from the middle, a search and a page of tags, through
 * /api/v1 with a session. Of a short list and of a long one, on two stores in turn, as `lists.ts` does for /v2.
 */
import { type BenchServer, namespace } from "../contenders.ts";
import { connections, listWorkload, middle, repository, toRow } from "./lists.ts";

interface List {
  work: string;
  /** The request to measure, of a store with so many repositories and tags. */
  path(api: Session, total: number): Promise<string> | string;
  /** How many entries its answer must have: a short one would be fast for the wrong reason. */
  entries: number;
}

const lists: List[] = [
  { work: "API: page of 100 repositories", path: pageFromTheMiddle, entries: 100 },
  {
    work: "API: search for the beginning of 100 names",
    path: (_, total) => `/find/repositories?query=r${middle(total).slice(0, 4)}&includeUsage=true`,
    entries: 10,
  },
  { work: "API: page of 100 tags", path: () => `/repository/${repository}/tag/?limit=100&page=5`, entries: 100 },
];

export const apiLists = listWorkload({
  name: "api",
  about: "pages and search of the REST API",
  lists,
  prepare: prepareLoad,
  toRow: (list, cells) =>
    toRow(list.work, cells, { note: `${connections} connections, session, rows seeded into SQLite` }),
});

async function prepareLoad(server: BenchServer, list: List, total: number) {
  const session = await signIn(server);
  const url = `${session.root}${await list.path(session, total)}`;
  const entries = entriesOf(await getJson(url, session.headers));
  if (entries !== list.entries) throw new Error(`GET ${url} was answered with ${entries} entries, not ${list.entries}`);
  return { url, headers: session.headers };
}

interface Session {
  /** Everything before the path of a route. */
  readonly root: string;
  readonly headers: Record<string, string>;
}

/** As a browser does: a value against forged requests first, then name and password. */
async function signIn(server: BenchServer): Promise<Session> {
  const visit = await fetch(`${server.url}/csrf_token`);
  const { csrf_token } = (await visit.json()) as { csrf_token: string };
  const answer = await fetch(`${server.url}/api/v1/signin`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf_token, Cookie: cookieOf(visit) },
    body: JSON.stringify({ username: namespace, password: server.adminPassword }),
  });
  if (answer.status !== 200) throw new Error(`the sign-in was answered ${answer.status}: ${await answer.text()}`);
  return { root: `${server.url}/api/v1`, headers: { Cookie: cookieOf(answer) } };
}

function cookieOf(response: Response): string {
  return response.headers.get("set-cookie")?.split(";")[0] ?? "";
}

/** Goes through the pages up to the middle: where to go on is a token that only the server can make. */
async function pageFromTheMiddle(session: Session, total: number): Promise<string> {
  const path = `/repository?namespace=${namespace}&last_modified=true`;
  let next = "";
  for (let seen = 0; seen < total / 2; seen += 100) {
    const page = await getJson(`${session.root}${path}${next}`, session.headers);
    next = `&next_page=${encodeURIComponent(String(page.next_page))}`;
  }
  return `${path}${next}`;
}

async function getJson(url: string, headers: Record<string, string>): Promise<Record<string, unknown>> {
  const response = await fetch(url, { headers });
  if (response.status !== 200) throw new Error(`GET ${url} was answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}

function entriesOf(page: Record<string, unknown>): number {
  const list = page.repositories ?? page.results ?? page.tags;
  return Array.isArray(list) ? list.length : 0;
}
