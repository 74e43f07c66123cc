/** Auto-prune policies of organizations, users and repositories. What they prune is the worker's business. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { insertAccount } from "../../src/domain/user/account.ts";
import { image, publish } from "../support/content.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

let api: Api;
let owner: ApiClient;
let stranger: ApiClient;
let namespaces: { alice: number; acme: number };

beforeAll(async () => {
  api = await startApi();
  const alice = await api.user("alice");
  await api.user("stranger");
  const aliceId = await api.accountId("alice");
  const acme = await api.app.db.tx(async (tx) => {
    const nowMs = Date.now();
    const id = await insertAccount(tx, {
      kind: "organization",
      username: "acme",
      tagExpirationSeconds: 1_209_600,
      nowMs,
    });
    await tx.sql`/* test.team */
      insert into team (organization_id, name, role, created_ms) values (${id}, 'owners', 'admin', ${nowMs})`;
    await tx.sql`/* test.member */ insert into team_member (team_id, account_id) select id, ${aliceId} from team`;
    return id;
  });
  namespaces = { alice: aliceId, acme };
  await Bun.sleep(260);
  for (const path of ["alice/prune", "alice/other", "acme/prune"]) await publish(alice, path, image("prune"), "v1");
  owner = await api.as("alice");
  stranger = await api.as("stranger");
}, 60_000);
afterAll(() => api.stop());

async function logged(namespaceId: number, kind: string): Promise<Record<string, unknown>[]> {
  const rows = await api.app.db.sql<{ metadata: string }>`/* test.logs */
    select metadata from action_log where namespace_id = ${namespaceId} and kind = ${kind} order by id`;
  return rows.map((row) => JSON.parse(row.metadata));
}

async function livingTags(): Promise<number[]> {
  const rows = await api.app.db.sql<{
    id: number;
  }>`/* test.tags */ select id from tag where end_ms is null order by id`;
  return rows.map(({ id }) => Number(id));
}

/** Tags of a place as `repository:name`, once all of them are older than a second. */
async function oldTags(namespace: string, repo: string | undefined): Promise<string[]> {
  const { db } = api.app;
  await db.sql`/* test.age */ update tag set start_ms = start_ms - 5000`;
  const rows = await db.sql<{ repository: string; name: string }>`/* test.tags */
    select r.name as repository, t.name from tag t join repository r on r.id = t.repository_id
    join account a on a.id = r.namespace_id
    where t.end_ms is null and a.username = ${namespace} order by r.name`;
  return rows.flatMap((row) => (repo === undefined || repo === row.repository ? `${row.repository}:${row.name}` : []));
}

const places = [
  { base: "/organization/acme/autoprunepolicy/", namespace: "acme", repo: undefined },
  { base: "/user/autoprunepolicy/", namespace: "alice", repo: undefined },
  { base: "/repository/alice/prune/autoprunepolicy/", namespace: "alice", repo: "prune" },
] as const;

describe.each(places.map((place) => [place.base, place] as const))("%s", (base, { namespace, repo }) => {
  test("makes, shows, changes and deletes policies, each with its entry in the log", async () => {
    expect((await owner.get(base)).body).toEqual({ policies: [] });
    const count = { method: "number_of_tags", value: 10 };
    const age = { method: "creation_date", value: "5d", tagPattern: " ^nightly- ", tagPatternMatches: false };
    const first = await owner.post(base, count);
    expect([first.status, Object.keys(first.body)]).toEqual([201, ["uuid"]]);
    const { uuid } = first.body;
    const second = (await owner.post(base, age)).body.uuid;
    const shown = { uuid, ...count, tagPattern: null, tagPatternMatches: true };
    const shownAge = { uuid: second, ...age, tagPattern: "^nightly-" };
    expect((await owner.get(base)).body).toEqual({ policies: [shown, shownAge] });
    expect((await owner.get(base + uuid)).body).toEqual(shown);
    expect((await owner.put(base + uuid, { method: "creation_date", value: "2w" })).status).toBe(204);
    expect((await owner.get(base + uuid)).body).toEqual({ ...shown, method: "creation_date", value: "2w" });
    const gone = await owner.delete(base + uuid);
    expect([gone.status, gone.body]).toEqual([200, { uuid }]);
    for (const answer of [
      await owner.get(base + uuid),
      await owner.delete(base + uuid),
      await owner.put(base + uuid, count),
    ]) {
      expect(answer.status).toBe(404);
    }
    const where = { namespace, ...(repo === undefined ? {} : { repo }) };
    const kind = (change: string) => `${change}_${repo === undefined ? "namespace" : "repository"}_autoprune_policy`;
    const id = namespaces[namespace];
    const plain = { tag_pattern: null, tag_pattern_matches: true, ...where };
    expect(await logged(id, kind("create"))).toEqual([
      { ...count, ...plain },
      { method: "creation_date", value: "5d", tag_pattern: "^nightly-", tag_pattern_matches: false, ...where },
    ]);
    expect(await logged(id, kind("update"))).toEqual([{ method: "creation_date", value: "2w", ...plain }]);
    expect(await logged(id, kind("delete"))).toEqual([{ policy_uuid: uuid, ...where }]);
  });

  test("refuses what is no policy with Quay's texts", async () => {
    const missing = "Missing the following parameters: method, value";
    const value = "Invalid value given for method type";
    const cases: [body: Record<string, unknown>, detail: string][] = [
      [{}, missing],
      [{ method: "number_of_tags" }, missing],
      [{ value: 5 }, missing],
      [{ method: null, value: 5 }, missing],
      [{ method: "random", value: 5 }, "Invalid method provided"],
      [{ method: "toString", value: 5 }, "Invalid method provided"],
      [{ method: "number_of_tags", value: 0 }, value],
      [{ method: "number_of_tags", value: -3 }, value],
      [{ method: "number_of_tags", value: 1.5 }, value],
      [{ method: "number_of_tags", value: 1e12 }, value],
      [{ method: "number_of_tags", value: "5" }, value],
      [{ method: "creation_date", value: 5 }, value],
      [{ method: "creation_date", value: "" }, value],
      [{ method: "creation_date", value: "0d" }, value],
      [{ method: "creation_date", value: "5 days" }, value],
      [{ method: "creation_date", value: `${"9".repeat(30)}w` }, value],
      [{ method: "last_pull_date", value: 30 }, value],
      [{ method: "last_pull_date", value: "0s" }, value],
      [{ method: "last_pull_date", value: "a month" }, value],
    ];
    const before = (await owner.get(base)).body;
    for (const [body, detail] of cases) {
      for (const path of [base, `${base}dryrun`]) {
        const answer = await owner.post(path, body);
        // A dry run without a policy tries those that stand.
        if (path !== base && Object.values(body).every((field) => field === null)) continue;
        expect([body, answer.status, envelopeOf(answer).detail]).toEqual([body, 400, detail]);
      }
    }
    const patterns = ["(", "a{2}{2}", "(?i)x", "x".repeat(257), "ä", 5];
    for (const tagPattern of patterns) {
      expect((await owner.post(base, { method: "number_of_tags", value: 5, tagPattern })).status).toBe(400);
    }
    expect((await owner.send("POST", base, "[]")).status).toBe(400);
    expect((await owner.get(base)).body).toEqual(before);
  });

  test("keeps policies by the last pull", async () => {
    const made = (await owner.post(base, { method: "last_pull_date", value: "30d", tagPattern: "^v" })).body.uuid;
    const shown = { uuid: made, method: "last_pull_date", value: "30d", tagPattern: "^v", tagPatternMatches: true };
    expect((await owner.get(base + made)).body).toEqual(shown);
    expect((await owner.put(base + made, { method: "last_pull_date", value: "8w" })).status).toBe(204);
    expect((await owner.delete(base + made)).status).toBe(200);
  });

  test("tries a policy without making it", async () => {
    const [before, tags] = [(await owner.get(base)).body, await livingTags()];
    const expected = await oldTags(namespace, repo);
    const whole = await owner.post(`${base}dryrun`, { method: "creation_date", value: "1s", tagPattern: "^v" });
    expect(whole.body.tags.map((tag: { repository: string; name: string }) => `${tag.repository}:${tag.name}`)).toEqual(
      expected,
    );
    expect(whole.body).toMatchObject({ is_complete: true, tag_count: expected.length, registry_bytes: null });
    // Both of the user's repositories hold the same image: one of them alone frees nothing.
    expect(whole.body.bytes > 0).toBe(repo === undefined);
    const [tag] = whole.body.tags;
    const policy = { uuid: null, method: "creation_date", value: "1s", tagPattern: "^v", tagPatternMatches: true };
    expect(tag).toMatchObject({ namespace, name: "v1", last_pull: null, policy });
    const nothing = { tags: [], is_complete: true, tag_count: 0, bytes: 0, registry_bytes: null };
    for (const body of [undefined, {}, { method: "number_of_tags", value: 1 }]) {
      expect((await owner.post(`${base}dryrun`, body)).body).toEqual(nothing);
    }
    expect((await owner.post(`${base}dryrun?limit=0`, {})).body).toEqual(nothing);
    for (const query of ["next_page=nonsense", "limit=many"]) {
      expect((await owner.post(`${base}dryrun?${query}`, {})).status).toBe(400);
    }
    expect([(await owner.get(base)).body, await livingTags()]).toEqual([before, tags]);
    expect((await stranger.post(`${base}dryrun`, {})).status).toBe(base.startsWith("/user/") ? 200 : 403);
  });

  test("takes no policy twice, and not without end", async () => {
    const where = repo === undefined ? "namespace" : "repository";
    const made = (await owner.post(base, { method: "number_of_tags", value: 77 })).body.uuid;
    const again = await owner.post(base, { method: "number_of_tags", value: 77 });
    expect([again.status, envelopeOf(again).detail]).toEqual([
      400,
      `Existing policy with same values for this ${where}, duplicate policies are not permitted`,
    ]);
    const other = (await owner.post(base, { method: "number_of_tags", value: 78 })).body.uuid;
    expect((await owner.put(base + other, { method: "number_of_tags", value: 77 })).status).toBe(400);
    expect((await owner.put(base + made, { method: "number_of_tags", value: 77 })).status).toBe(204);
    let last = 201;
    for (let value = 100; last === 201 && value < 150; value++) {
      last = (await owner.post(base, { method: "number_of_tags", value })).status;
    }
    expect([last, (await owner.get(base)).body.policies.length]).toEqual([400, 20]);
  });

  test("is for its admins, and a policy of one place is not of another", async () => {
    const [policy] = (await owner.get(base)).body.policies;
    for (const elsewhere of [...places.map((place) => place.base), "/repository/alice/other/autoprunepolicy/"]) {
      if (elsewhere === base) continue;
      expect((await owner.get(elsewhere + policy.uuid)).status).toBe(404);
      expect((await owner.delete(elsewhere + policy.uuid)).status).toBe(404);
    }
    const foreign = await stranger.get(base + policy.uuid);
    expect(foreign.status).toBe(base.startsWith("/user/") ? 404 : 403);
    expect((await (await api.nobody()).get(base)).status).toBe(401);
    expect((await owner.get(base + policy.uuid)).status).toBe(200);
  });
});

test("FEATURE_AUTO_PRUNE off: there are no such routes; a wrong default policy is a problem of the config", async () => {
  const other = await startApi({
    FEATURE_AUTO_PRUNE: false,
    DEFAULT_NAMESPACE_AUTOPRUNE_POLICY: { method: "last_pull_date", value: "30d" },
  });
  try {
    await other.user("alice");
    expect((await (await other.as("alice")).get("/user/autoprunepolicy/")).status).toBe(404);
    expect((await (await other.as("alice")).post("/user/autoprunepolicy/dryrun", {})).status).toBe(404);
  } finally {
    await other.stop();
  }
  for (const policy of [
    { method: "random", value: 5 },
    { method: "number_of_tags", value: "5d" },
    { method: "creation_date", value: 5 },
    { method: "creation_date", value: "soon" },
    { method: "last_pull_date", value: 5 },
    { method: "creation_date", value: "0d" },
    { method: "number_of_tags", value: 1e12 },
    { method: "number_of_tags", value: 5, tagPattern: "(" },
    { method: "number_of_tags", value: 5, tagPattern: "" },
  ]) {
    const wrong = startApi({ DEFAULT_NAMESPACE_AUTOPRUNE_POLICY: policy });
    await expect(wrong).rejects.toThrow("DEFAULT_NAMESPACE_AUTOPRUNE_POLICY");
  }
}, 30_000);
