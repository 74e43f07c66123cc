/**
 * What requests cost in a large registry, in numbers of queries and rows, which do not depend on the machine: lists, search,
 * permission checks and tag pages cost what they show, wherever the page is and however much there is beside it.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type BootedApp, boot } from "../../src/boot.ts";
import { loadConfig } from "../../src/config/load.ts";
import { listVisibleRepositories } from "../../src/domain/repository/list.ts";
import { startSession } from "../../src/domain/session/session.ts";
import { createUser, findAccount } from "../../src/domain/user/account.ts";
import { createHttp } from "../../src/http/server.ts";
import { createLogger } from "../../src/observe/logger.ts";
import type { Registry } from "../registry/harness.ts";
import { chosenEngines } from "../support/database.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { makeOrganization } from "./credentials-world.ts";
import { seedLoad, TEAMS } from "./load-world.ts";

let dir: TempDir;
let app: BootedApp;
let http: ReturnType<typeof createHttp>;
const cookies = new Map<string, string>();

beforeAll(async () => {
  dir = makeTempDir("load");
  const [engine] = chosenEngines();
  const uri = engine === "postgres" ? await createTestDatabase() : `sqlite:///${join(dir.path, "berth.db")}`;
  const silent = createLogger({ clock: { nowMs: () => Date.now() }, level: "error", format: "text" });
  const keys = { DB_URI: uri, SUPER_USERS: ["root-user"], FEATURE_SUPERUSERS_FULL_ACCESS: true };
  app = await boot(loadConfig({ dataDir: dir.path, env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(keys) } }), silent);
  http = createHttp(app);
  const facts = { tagExpirationSeconds: 14 * 24 * 3600, nowMs: Date.now() };
  for (const username of ["alice", "mary", "zoe", "nick", "root-user"]) {
    const id = await app.db.tx((tx) => createUser(tx, { username, passwordHash: undefined }, facts));
    const request = { ip: undefined, userAgent: undefined };
    const token = await app.db.tx((tx) => startSession(app, tx, { accountId: id, request, nowMs: Date.now() }));
    cookies.set(username, `_csrf_token=${token}`);
  }
  const registry = { app } as unknown as Registry;
  await makeOrganization(registry, "big", "alice");
  await makeOrganization(registry, "open", "alice");
  const [big, open, zoe, alice, mary] = await Promise.all(["big", "open", "zoe", "alice", "mary"].map(idOf));
  await seedLoad(app.db, { big: big ?? 0, open: open ?? 0, zoe: zoe ?? 0, alice: alice ?? 0, mary: mary ?? 0 });
}, 180_000);

afterAll(async () => {
  await app.close();
  dir.remove();
});

async function idOf(name: string): Promise<number> {
  const account = await findAccount(app.db, name);
  if (!account) throw new Error(`no account "${name}"`);
  return account.id;
}

interface Answer {
  // biome-ignore lint/suspicious/noExplicitAny: what a test expects of a body it says itself
  readonly body: any;
  readonly queries: number;
  readonly rows: number;
}

/** What a request of this user (or of nobody, with "") answers and costs, its session already known. */
async function get(username: string, path: string, status = 200): Promise<Answer> {
  const cookie = cookies.get(username);
  const ask = () =>
    http.fetch(new Request(`http://berth.test/api/v1${path}`, { headers: cookie === undefined ? {} : { cookie } }), {
      clientIp: "127.0.0.1",
    });
  await (await ask()).arrayBuffer();
  const before = { ...app.db.stats };
  const response = await ask();
  const body = await response.json();
  expect([path, response.status]).toEqual([path, status]);
  return { body, queries: app.db.stats.queries - before.queries, rows: app.db.stats.rows - before.rows };
}

/** Log-in by session and the repository itself are two look-ups by key. */
const WHO = 2;

describe("a list of repositories", () => {
  const page = 100;
  /** What was given, what is the caller's own, its organizations and what is in them, what is public. */
  const waysMax = 5;
  /** The rows, and what they show beside themselves. */
  const parts = 4;
  const cases = [
    ["an owner's own", "zoe", "namespace=zoe", 1],
    ["an organization's admin", "alice", "namespace=big", 1],
    ["what is public", "nick", "public=true", 1],
    ["what is public, for nobody", "", "public=true", 1],
    ["one namespace's public ones", "nick", "namespace=open&public=true", 1],
    ["a superuser's", "root-user", "public=true", 1],
    ["all of an admin's", "alice", "public=true", 2],
  ] as const;
  for (const [name, user, query, ways] of cases) {
    test(`${name}: a page costs a page, first or far in`, async () => {
      const wide = `${query}&last_modified=true&popularity=true`;
      let path = `/repository?${wide}`;
      for (let round = 0; round < 4; round++) {
        const { body, queries, rows } = await get(user, path);
        expect(body.repositories).toHaveLength(page);
        expect(queries).toBeLessThanOrEqual(WHO + waysMax + parts);
        // Per way one row too many, an organization, the rows, and for each when it was last modified.
        expect(rows).toBeLessThanOrEqual(WHO + ways * (page + 1) + 2 + 2 * page);
        path = `/repository?${wide}&next_page=${encodeURIComponent(body.next_page)}`;
      }
    });
  }

  test("what a thousand teams give is all there, each once", async () => {
    const seen: string[] = [];
    let next = "";
    do {
      const answer = await get("mary", `/repository?namespace=big${next && `&next_page=${encodeURIComponent(next)}`}`);
      seen.push(...answer.body.repositories.map(({ name }: { name: string }) => name));
      expect(answer.queries).toBeLessThanOrEqual(WHO + waysMax + 2);
      expect(answer.rows).toBeLessThanOrEqual(WHO + page + 1 + page);
      next = answer.body.next_page ?? "";
    } while (next !== "" && seen.length <= TEAMS);
    expect(seen).toHaveLength(TEAMS);
    expect(seen).toEqual([...new Set(seen)].sort());
  });

  test("a stranger's page of a large private namespace is empty for nothing", async () => {
    const { body, rows } = await get("nick", "/repository?namespace=big&public=true");
    expect(body.repositories).toEqual([]);
    expect(rows).toBeLessThanOrEqual(WHO);
  });
});

describe("a search", () => {
  for (const [user, query, hits] of [
    ["root-user", "svc", 10],
    ["alice", "api", 10],
    ["zoe", "0001", 10],
    ["nick", "svc-00", 10],
    ["", "api", 10],
    ["alice", "api svc", 10],
    ["nick", "open/svc-0199", 10],
    ["mary", "001000", 2],
    ["nick", "big/", 0],
    ["nick", "nothing-is-called-so", 0],
  ] as const) {
    test(`for "${query}" by ${user || "nobody"} costs what it shows`, async () => {
      const { body, queries, rows } = await get(user, `/find/repositories?query=${encodeURIComponent(query)}`);
      expect(body.results).toHaveLength(hits);
      expect(body.has_additional).toBe(hits === 10);
      // The ways by words and, for a path, those by paths; then the rows.
      expect(queries).toBeLessThanOrEqual(WHO + 4 + (query.includes("/") ? 5 : 0) + 1);
      expect(rows).toBeLessThanOrEqual(WHO + 4 * 11 + 11);
    });
  }

  test("its last page costs no more than the pages up to it", async () => {
    const { body, queries, rows } = await get("nick", "/find/repositories?query=svc&page=10&includeUsage=true");
    expect(body.results).toHaveLength(10);
    expect(queries).toBeLessThanOrEqual(WHO + 7);
    expect(rows).toBeLessThanOrEqual(WHO + 101 + 11 + 3 * 10);
  });

  test("of everything has a few queries of five rows", async () => {
    for (const user of ["alice", "mary", "nick", ""]) {
      const { body, queries, rows } = await get(user, "/find/all?query=team");
      expect(body.results.length).toBe(user === "mary" || user === "alice" ? 5 : 0);
      expect(queries).toBeLessThanOrEqual(WHO + 12);
      expect(rows).toBeLessThanOrEqual(WHO + 5 * 8);
    }
    const { body } = await get("nick", "/find/all?query=open");
    expect(body.results.map(({ name }: { name: string }) => name)).toEqual(["open"]);
  });

  test("of names to give a role has a few queries of ten rows", async () => {
    const { body, queries, rows } = await get("alice", "/entities/team?namespace=big&includeTeams=true");
    expect(body.results).toHaveLength(10);
    expect(queries).toBeLessThanOrEqual(WHO + 5);
    expect(rows).toBeLessThanOrEqual(WHO + 2 + 3 * 10);
  });
});

describe("a permission check", () => {
  test("of a user in a thousand teams is one query of one row, and none when it is known", async () => {
    const path = "/repository/big/svc-000500-api?includeTags=false";
    await app.db.tx(async (tx) => tx.changed("everything"));
    const before = { ...app.db.stats };
    const principal = await app.lookup.principal(await idOf("mary"));
    const repository = await app.lookup.repository("big/svc-000500-api" as never);
    if (!repository) throw new Error("the repository is not there");
    const start = { ...app.db.stats };
    expect(await app.lookup.role(principal, repository)).toBe("read");
    expect(app.db.stats.queries - start.queries).toBe(1);
    expect(app.db.stats.rows - start.rows).toBe(1);
    expect(app.db.stats.queries - before.queries).toBeLessThanOrEqual(4);
    const { body, queries, rows } = await get("mary", path);
    expect(body).toMatchObject({ can_write: false, can_admin: false });
    // The session, what the page shows, and the star.
    expect(queries).toBeLessThanOrEqual(WHO + 2);
    expect(rows).toBeLessThanOrEqual(WHO + 2);
  });

  test("of a thousand teams on one repository is as cheap", async () => {
    const repository = await app.lookup.repository("big/svc-000001-api" as never);
    if (!repository) throw new Error("the repository is not there");
    const principal = await app.lookup.principal(await idOf("mary"));
    await app.db.tx(async (tx) => tx.changed("everything"));
    const start = { ...app.db.stats };
    expect(await app.lookup.role(principal, repository)).toBe("read");
    expect(app.db.stats.rows - start.rows).toBe(1);
  });

  test("for somebody without a right finds nothing, at the same price", async () => {
    const { queries, rows } = await get("nick", "/repository/zoe/svc-000001-api", 403);
    expect(queries).toBeLessThanOrEqual(WHO);
    expect(rows).toBeLessThanOrEqual(WHO);
  });
});

describe("a repository of a hundred thousand tags", () => {
  const path = "/repository/big/svc-000001-api";

  test("shows its first five hundred", async () => {
    const { body, queries, rows } = await get("alice", path);
    expect(Object.keys(body.tags)).toHaveLength(500);
    expect(queries).toBeLessThanOrEqual(WHO + 3);
    expect(rows).toBeLessThanOrEqual(WHO + 502);
  });

  test("gives pages of tags that cost a page, first or far in", async () => {
    for (const query of [
      "limit=50",
      "limit=100&page=1",
      "limit=100&page=2",
      "specificTag=t050000",
      "onlyActiveTags=true",
    ]) {
      const { body, queries, rows } = await get("alice", `${path}/tag/?${query}`);
      expect(body.tags.length).toBeGreaterThan(0);
      expect(body.tags.length).toBeLessThanOrEqual(100);
      expect(queries).toBeLessThanOrEqual(WHO + 4);
      expect(rows).toBeLessThanOrEqual(WHO + 2 * 101 + 4);
    }
  });
});

test("the catalog of /v2 goes through an organization's repositories at the price of its pages", async () => {
  const principal = await app.lookup.principal(await idOf("alice"));
  const caller = { principal, grants: undefined, expired: false, authKind: "basic" } as const;
  let last: string | undefined;
  const start = { ...app.db.stats };
  for (let round = 0; round < 5; round++) {
    const { paths, more } = await listVisibleRepositories(app, caller, { limit: 100, last });
    expect([paths.length, more]).toEqual([100, true]);
    last = paths.at(-1);
  }
  expect(last).toBe("big/svc-000500-api");
  expect(app.db.stats.queries - start.queries).toBeLessThanOrEqual(5 * 4);
  expect(app.db.stats.rows - start.rows).toBeLessThanOrEqual(5 * (101 + 2));
});
