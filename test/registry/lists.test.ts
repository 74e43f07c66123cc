/** Tag lists and the catalog: order, pages, and that nobody sees what is not theirs to see. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { toNumber } from "../../src/db/decode.ts";
import { image, publish } from "../support/content.ts";
import type { RegistryClient } from "../support/registry-client.ts";
import { basicOf, errorOf, type Registry, startRegistry } from "./harness.ts";

const repository = "admin/tags";
let registry: Registry;
let admin: RegistryClient;

beforeAll(async () => {
  registry = await startRegistry({ GLOBAL_READONLY_SUPER_USERS: ["auditor"] });
  admin = registry.admin;
}, 60_000);
afterAll(() => registry.stop());

interface Page {
  readonly items: string[];
  /** Path and query of the next page. */
  readonly next: string | undefined;
}

async function readPage(answer: Promise<Response>, field: "tags" | "repositories"): Promise<Page> {
  const response = await answer;
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/json");
  const link = response.headers.get("link");
  const next = link === null ? undefined : /^<([^>]+)>; rel="next"$/.exec(link)?.[1];
  if (link !== null) expect(next).toBeString();
  const body = (await response.json()) as Record<string, string[]>;
  return { items: body[field] ?? [], next };
}

const tags = (query = "", name = repository) => readPage(admin.listTags(name, query), "tags");
const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** Pages until there is no next one. */
async function all(first: Page, follow: (path: string) => Promise<Page>, pagesMax = 200): Promise<string[]> {
  const items = [...first.items];
  let { next } = first;
  for (let pages = 0; next !== undefined; pages++) {
    if (pages > pagesMax) throw new Error("the links have no end");
    const page = await follow(next);
    items.push(...page.items);
    next = page.next;
  }
  return items;
}

const followTags = (path: string) => readPage(admin.request(path, { scope: `repository:${repository}:pull` }), "tags");

describe("tags", () => {
  const names = ["v1", "V1", "v10", "v2", "_x", "0", "9", "a.b", "a-b", "a_b", "A", "z", "latest", "La"];

  beforeAll(async () => {
    const content = image("tags");
    await publish(admin, repository, content, "v1");
    for (const name of names) expect((await admin.pushManifest(repository, name, content.manifest)).status).toBe(201);
  });

  test("come in byte order, each once, with the repository's name", async () => {
    const response = await admin.listTags(repository);
    expect(await response.json()).toEqual({ name: repository, tags: [...names].sort(byBytes) });
    expect(response.headers.get("link")).toBeNull();
  });

  test("n and last: pages of every size make up the whole", async () => {
    for (const n of [1, 3, names.length - 1, names.length, names.length + 1]) {
      const first = await tags(`?n=${n}`);
      expect(first.items).toHaveLength(Math.min(n, names.length));
      expect(await all(first, followTags), `n=${n}`).toEqual([...names].sort(byBytes));
    }
  });

  test("the Link names path, n and last; none after the last page, also when it is full", async () => {
    const sorted = [...names].sort(byBytes);
    const page = await tags("?n=4");
    expect(page.next).toBe(`/v2/${repository}/tags/list?n=4&last=${sorted[3]}`);
    expect((await tags(`?n=${names.length}`)).next).toBeUndefined();
  });

  test("last need not be there, may be the last one, and may be beyond", async () => {
    const after = (last: string) => [...names].sort(byBytes).filter((name) => byBytes(name, last) > 0);
    for (const last of ["v1", "v", "nothing-like-it", "zzz", "!", "~", "sha256:abc", "a/b"]) {
      expect((await tags(`?last=${encodeURIComponent(last)}`)).items, last).toEqual(after(last));
    }
  });

  test("n=0 is an empty list without a Link", async () => {
    expect(await tags("?n=0")).toEqual({ items: [], next: undefined });
  });

  test("n that is no number of items is refused", async () => {
    for (const n of ["-1", "1e18", "1.5", "x", "%00", "+1", "", " 1", "٣", "9".repeat(1000)]) {
      const response = await admin.listTags(repository, `?n=${encodeURIComponent(n).replace("%2500", "%00")}`);
      expect(response.status, n).toBe(400);
      expect((await errorOf(response)).code).toBe("INVALID_REQUEST");
    }
  });

  test("last that no list holds is refused", async () => {
    for (const last of ["%00", "a%00b", "%0a", "%FF", "a%20b", "a".repeat(600)]) {
      const response = await admin.listTags(repository, `?last=${last}`);
      expect(response.status, last).toBe(400);
      expect((await errorOf(response)).code).toBe("INVALID_REQUEST");
    }
  });

  test("n above the most is clamped", async () => {
    for (const n of ["1000000000000000000", "1001", "9".repeat(300)]) {
      expect((await tags(`?n=${n}`)).items).toHaveLength(names.length);
    }
  });

  test("a deleted tag is not listed, a repository without tags has an empty list", async () => {
    await publish(admin, "admin/untagged", image("untagged"));
    const response = await admin.listTags("admin/untagged");
    expect(await response.json()).toEqual({ name: "admin/untagged", tags: [] });
  });

  test("a repository that is not there is NAME_UNKNOWN to its owner", async () => {
    const response = await admin.listTags("admin/not-there");
    expect(response.status).toBe(404);
    expect(await errorOf(response)).toMatchObject({ code: "NAME_UNKNOWN", detail: { name: "admin/not-there" } });
  });

  test("10,000 tags: pages of at most 1,000, in order, all of them", async () => {
    const many = "admin/many-tags";
    const content = image("many");
    await publish(admin, many, content, "first");
    const expected = await insertTags(many, content.digest, 10_000);
    const page = await tags("?n=100000", many);
    expect(page.items).toHaveLength(1000);
    const follow = (path: string) => readPage(admin.request(path, { scope: `repository:${many}:pull` }), "tags");
    expect(await all(page, follow)).toEqual([...expected, "first"].sort(byBytes));
  }, 60_000);
});

describe("the catalog", () => {
  const paths = ["alice/one", "alice/two", "bob/private", "bob/public", "bob/shared", "acme/app", "acme/lib"];
  let stranger: RegistryClient;

  beforeAll(async () => {
    const [alice, bob] = [await registry.user("alice"), await registry.user("bob")];
    stranger = await registry.user("nobody");
    for (const name of ["member", "owner", "auditor"]) await registry.user(name);
    await insertOrganization("acme");
    for (const path of paths) {
      const client = path.startsWith("alice")
        ? alice
        : path.startsWith("bob")
          ? bob
          : registry.client("owner", ownerPassword);
      await publish(client, path, image(path), "v1");
    }
    await registry.robot("bob", "bot");
    await registry.grant("alice", "bob/shared", "read");
    await registry.grant("bob+bot", "bob/shared", "read");
    await registry.visibility("bob/public", "public");
    await grantTeam("acme", "readers", "acme/lib", "member");
  }, 60_000);

  const ownerPassword = "correct-horse-battery";

  async function catalogOf(username: string, query = ""): Promise<Page> {
    const headers = basicOf(username, username === "admin" ? registry.berth.adminPassword : ownerPassword);
    return readPage(fetch(`${registry.berth.url}/v2/_catalog${query}`, { headers }), "repositories");
  }

  test("an owner sees its own and what it was given; public ones only with FEATURE_PUBLIC_CATALOG", async () => {
    expect((await catalogOf("alice")).items).toEqual(["alice/one", "alice/two", "bob/shared"]);
    expect((await catalogOf("bob")).items).toEqual(["bob/private", "bob/public", "bob/shared"]);
  });

  test("a stranger sees nothing, and so does a superuser without full access", async () => {
    expect((await catalogOf("nobody")).items).toEqual([]);
    expect((await catalogOf("admin")).items.filter((path) => !path.startsWith("admin/"))).toEqual([]);
  });

  test("a team's member sees what the team was given, an admin of the organization all of it", async () => {
    expect((await catalogOf("member")).items).toEqual(["acme/lib"]);
    expect((await catalogOf("owner")).items).toEqual(["acme/app", "acme/lib"]);
  });

  test("a robot sees what it was given", async () => {
    const account = await registry.robot("bob", "second");
    await registry.grant("bob+second", "bob/private", "read");
    const headers = basicOf(account.name, account.token);
    const answer = fetch(`${registry.berth.url}/v2/_catalog`, { headers });
    expect((await readPage(answer, "repositories")).items).toEqual(["bob/private"]);
  });

  test("a global read-only superuser sees everything", async () => {
    const { items } = await catalogOf("auditor");
    for (const path of paths) expect(items).toContain(path);
    expect(items).toContain(repository);
    expect(items).toEqual([...items].sort(byBytes));
  });

  test("pages make up the whole, and the Link names n and last", async () => {
    const whole = (await catalogOf("auditor")).items;
    for (const n of [1, 2, 5]) {
      const first = await catalogOf("auditor", `?n=${n}`);
      expect(first.next).toBe(`/v2/_catalog?n=${n}&last=${encodeURIComponent(whole[n - 1] ?? "")}`);
      const found = await all(first, (path) => catalogOf("auditor", path.slice(path.indexOf("?"))));
      expect(found, `n=${n}`).toEqual(whole);
    }
    expect(await catalogOf("auditor", "?n=0")).toEqual({ items: [], next: undefined });
  });

  test("with a bearer token it is the same, whatever scope the token was asked for", async () => {
    const alice = registry.client("alice", ownerPassword);
    for (const scope of ["registry:catalog:*", "repository:bob/private:pull"]) {
      const answer = alice.request("/v2/_catalog", { scope });
      expect((await readPage(answer, "repositories")).items).toEqual(["alice/one", "alice/two", "bob/shared"]);
    }
  });

  test("without any credentials it asks for them; an anonymous token sees nothing", async () => {
    const response = await fetch(`${registry.berth.url}/v2/_catalog`);
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toStartWith("Bearer realm=");
    await response.body?.cancel();
    const answer = registry.anonymous.request("/v2/_catalog", { scope: "repository:bob/public:pull" });
    expect((await readPage(answer, "repositories")).items).toEqual([]);
  });

  test("FEATURE_PUBLIC_CATALOG lists public ones to everybody with a token, and never private ones", async () => {
    const open = await startRegistry({ FEATURE_PUBLIC_CATALOG: true });
    try {
      for (const path of ["admin/private", "admin/public"]) await publish(open.admin, path, image(path), "v1");
      await open.visibility("admin/public", "public");
      const user = await open.user("somebody");
      await publish(user, "somebody/own", image("own"), "v1");
      const ask = (client: RegistryClient) =>
        readPage(client.request("/v2/_catalog", { scope: "repository:admin/public:pull" }), "repositories");
      expect((await ask(open.anonymous)).items).toEqual(["admin/public"]);
      expect((await ask(user)).items).toEqual(["admin/public", "somebody/own"]);
      expect((await ask(open.admin)).items).toEqual(["admin/private", "admin/public"]);
    } finally {
      await open.stop();
    }
  }, 30_000);

  test("a repository that is taken away is gone from the list", async () => {
    await registry.grant("alice", "bob/shared", "none");
    expect((await catalogOf("alice")).items).toEqual(["alice/one", "alice/two"]);
    expect((await stranger.pullManifest("bob/shared", "v1")).status).toBe(401);
  });
});

/** Organizations and teams come with their own API; until then their rows are made here. */
async function insertOrganization(name: string): Promise<void> {
  const { db } = registry.app;
  const ownerId = await registry.accountId("owner");
  await db.tx(async (tx) => {
    const [row] = await tx.sql<{ id: number }>`
      insert into account (uuid, kind, username, tag_expiration_s, created_ms)
      values (${crypto.randomUUID()}, 'organization', ${name}, 0, 0) returning id`;
    const [team] = await tx.sql<{ id: number }>`
      insert into team (organization_id, name, role, created_ms)
      values (${toNumber(row?.id)}, 'owners', 'admin', 0) returning id`;
    await tx.sql`insert into team_member (team_id, account_id) values (${toNumber(team?.id)}, ${ownerId})`;
  });
}

async function grantTeam(organization: string, team: string, path: string, memberName: string): Promise<void> {
  const organizationId = await registry.accountId(organization);
  const memberId = await registry.accountId(memberName);
  const { id: repositoryId } = await registry.repository(path);
  await registry.app.db.tx(async (tx) => {
    const [row] = await tx.sql<{ id: number }>`
      insert into team (organization_id, name, role, created_ms) values (${organizationId}, ${team}, 'member', 0)
      returning id`;
    const teamId = toNumber(row?.id);
    await tx.sql`insert into team_member (team_id, account_id) values (${teamId}, ${memberId})`;
    await tx.sql`insert into repository_permission (repository_id, team_id, role) values (${repositoryId}, ${teamId}, 'read')`;
  });
}

/** Tags by rows: pushing 10,000 would test the push. */
async function insertTags(path: string, digest: string, count: number): Promise<string[]> {
  const { id: repositoryId } = await registry.repository(path);
  const names = Array.from({ length: count }, (_, position) => `t${position.toString(36)}`);
  await registry.app.db.tx(async (tx) => {
    const [manifest] = await tx.sql<{ id: number }>`
      select id from manifest where repository_id = ${repositoryId} and digest = ${digest}`;
    const manifestId = toNumber(manifest?.id);
    for (const name of names) {
      await tx.sql`insert into tag (repository_id, name, manifest_id, start_ms)
        values (${repositoryId}, ${name}, ${manifestId}, ${Date.now()})`;
    }
  });
  return names;
}
