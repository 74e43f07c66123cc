/** Immutable tags, one by one and by policy: on push, move, delete and expiry, on both surfaces. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { insertAccount } from "../../src/domain/user/account.ts";
import { errorOf } from "../registry/harness.ts";
import { absentDigest, artifact, type Image, image, index, publish } from "../support/content.ts";
import type { RegistryClient } from "../support/registry-client.ts";
import { type Api, type ApiAnswer, type ApiClient, envelopeOf, startApi } from "./harness.ts";

let api: Api;
let alice: RegistryClient;
let owner: ApiClient;

beforeAll(async () => {
  api = await startApi({ PERMANENTLY_DELETE_TAGS: true });
  alice = await api.user("alice");
  for (const name of ["writer", "keeper"]) await api.user(name);
  owner = await api.as("alice");
}, 60_000);
afterAll(() => api.stop());

const [one, two] = [image("immutable-1"), image("immutable-2")];
const expiring = artifact("application/vnd.example.x", { annotations: { "quay.expires-after": "2h" } });

let repositories = 0;
async function repositoryWith(...pushes: [tag: string | undefined, content: Image][]): Promise<string> {
  const path = `alice/immutable-${++repositories}`;
  for (const [tag, content] of pushes) await publish(alice, path, content, tag);
  return path;
}
const tagPath = (path: string, tag: string) => `/repository/${path}/tag/${tag}`;
const policyPath = (path: string) => `/repository/${path}/immutabilitypolicy/`;
const setImmutable = (path: string, tag: string, immutable: boolean, client = owner) =>
  client.put(tagPath(path, tag), { immutable });
async function tagOf(path: string, tag: string) {
  const answer = await owner.get(`/repository/${path}/tag/?specificTag=${tag}&onlyActiveTags=true`);
  return answer.body.tags[0] as { immutable: boolean; manifest_digest: string; expiration?: string } | undefined;
}
const push = (path: string, tag: string, content: Image, client = alice) =>
  client.pushManifest(path, tag, content.manifest, content.mediaType);
const inDays = (days: number) => Math.floor(Date.now() / 1000) + days * 24 * 3600;
function expectRefused(answer: ApiAnswer): void {
  expect([answer.status, envelopeOf(answer).type]).toEqual([409, "conflict"]);
  expect(envelopeOf(answer).detail).toContain("is immutable");
}
async function logged(kind: string, namespaceId: number): Promise<Record<string, unknown>[]> {
  const rows = await api.app.db.sql<{ metadata: string }>`/* test.logs */
    select metadata from action_log where kind = ${kind} and namespace_id = ${namespaceId} order by id`;
  return rows.map((row) => JSON.parse(row.metadata));
}

describe("one tag", () => {
  test("is made immutable by a writer, freed by an admin alone, and both are in the log", async () => {
    const path = await repositoryWith(["v1", one]);
    await api.grant("writer", path, "write");
    await api.grant("keeper", path, "admin");
    const [writer, keeper] = [await api.as("writer"), await api.as("keeper")];
    expect((await setImmutable(path, "v1", true, writer)).status).toBe(201);
    expect((await setImmutable(path, "v1", true, writer)).status).toBe(201);
    expect((await tagOf(path, "v1"))?.immutable).toBe(true);
    const refused = await setImmutable(path, "v1", false, writer);
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      403,
      'tag "v1" is immutable: only administrators of the repository can change that',
    ]);
    expect((await tagOf(path, "v1"))?.immutable).toBe(true);
    expect((await setImmutable(path, "v1", false, keeper)).status).toBe(201);
    expect((await tagOf(path, "v1"))?.immutable).toBe(false);
    const base = { repo: path.slice(6), namespace: "alice", tag: "v1" };
    const entries = await logged("change_tag_immutability", await api.accountId("alice"));
    expect(entries.filter(({ repo }) => repo === base.repo)).toEqual([
      { username: "writer", ...base, immutable: true, original_immutable: false },
      { username: "keeper", ...base, immutable: false, original_immutable: true },
    ]);
  });
  test("cannot be overwritten; the same image may be pushed again", async () => {
    const path = await repositoryWith(["v1", one], ["other", two]);
    await setImmutable(path, "v1", true);
    const refused = await push(path, "v1", two);
    expect(refused.status).toBe(409);
    expect(await errorOf(refused)).toMatchObject({
      code: "DENIED",
      message: expect.stringContaining('"v1" is immutable'),
    });
    expect((await push(path, "v1", one)).status).toBe(201);
    expectRefused(await owner.put(tagPath(path, "v1"), { manifest_digest: two.digest }));
    expectRefused(await owner.post(`${tagPath(path, "v1")}/restore`, { manifest_digest: two.digest }));
    expect((await owner.put(tagPath(path, "v1"), { manifest_digest: one.digest })).status).toBe(201);
    expect((await tagOf(path, "v1"))?.manifest_digest).toBe(one.digest);
    expect((await tagOf(path, "v1"))?.immutable).toBe(true);
  });
  test("in a push of several, keeps all of them from changing", async () => {
    const path = await repositoryWith(["v1", one], [undefined, two]);
    await setImmutable(path, "v1", true);
    const response = await alice.request(`/v2/${path}/manifests/${two.digest}?tag=fresh&tag=v1`, {
      method: "PUT",
      body: two.manifest,
      headers: { "content-type": two.mediaType },
      scope: `repository:${path}:pull,push`,
    });
    expect(response.status).toBe(409);
    expect(await tagOf(path, "fresh")).toBeUndefined();
  });
  test("cannot be deleted: by tag, by digest, for good, or through the index that holds its manifest", async () => {
    const path = await repositoryWith([undefined, one], ["solo", two]);
    await publish(alice, path, index([one.descriptor]), "list");
    const nested = index([index([one.descriptor]).descriptor]);
    await publish(alice, path, nested, "nested");
    await setImmutable(path, "solo", true);
    await setImmutable(path, "nested", true);
    const scope = `repository:${path}:pull,push,delete`;
    const remove = (reference: string) =>
      alice.request(`/v2/${path}/manifests/${reference}`, { method: "DELETE", scope });
    expectRefused(await owner.delete(tagPath(path, "solo")));
    expectRefused(await owner.post(`${tagPath(path, "solo")}/expire`, { is_alive: true }));
    expect((await remove("solo")).status).toBe(409);
    expect((await remove(two.digest)).status).toBe(409);
    expect((await remove(one.digest)).status).toBe(409);
    expect((await remove(index([one.descriptor]).digest)).status).toBe(409);
    expect((await alice.pullManifest(path, one.digest)).status).toBe(200);
    await setImmutable(path, "nested", false);
    expect((await remove(one.digest)).status).toBe(202);
  });
  test("cannot be given an end, and one that has an end cannot become immutable", async () => {
    const path = await repositoryWith(["v1", one], ["dying", one], ["label", expiring], [undefined, expiring]);
    await setImmutable(path, "v1", true);
    expectRefused(await owner.put(tagPath(path, "v1"), { expiration: inDays(3) }));
    expect((await owner.put(tagPath(path, "v1"), { expiration: null })).status).toBe(201);
    await owner.put(tagPath(path, "dying"), { expiration: inDays(3) });
    const refused = await setImmutable(path, "dying", true);
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      'tag "dying" has an expiration: clear it before making the tag immutable',
    ]);
    expect((await setImmutable(path, "label", true)).status).toBe(400);
    expect((await owner.put(tagPath(path, "dying"), { expiration: null, immutable: true })).status).toBe(201);
    const body = { key: "quay.expires-after", value: "2h", media_type: null };
    await owner.post(`/repository/${path}/manifest/${one.digest}/labels`, body);
    expect((await tagOf(path, "v1"))?.expiration).toBeUndefined();
    await push(path, "v1", one);
    expect((await tagOf(path, "v1"))?.expiration).toBeUndefined();
  });
  test("can be freed, moved and protected in one request by an admin, and by a writer not", async () => {
    const path = await repositoryWith(["v1", one], [undefined, two]);
    await api.grant("writer", path, "write");
    await setImmutable(path, "v1", true);
    const change = { manifest_digest: two.digest, immutable: false };
    expect((await owner.put(tagPath(path, "v1"), change, {})).status).toBe(201);
    expect(await tagOf(path, "v1")).toMatchObject({ manifest_digest: two.digest, immutable: false });
    const made = await owner.put(tagPath(path, "v2"), { manifest_digest: two.digest, immutable: true });
    expect([made.status, (await tagOf(path, "v2"))?.immutable]).toEqual([201, true]);
    const writer = await api.as("writer");
    const body = { manifest_digest: one.digest, immutable: false };
    expect((await writer.put(tagPath(path, "v2"), body)).status).toBe(403);
    expect((await tagOf(path, "v2"))?.manifest_digest).toBe(two.digest);
  });
  test("that is not there is 404", async () => {
    const path = await repositoryWith(["v1", one]);
    expect((await setImmutable(path, "nosuch", true)).status).toBe(404);
    expect((await owner.put(tagPath(path, "v1"), { immutable: "yes" })).status).toBe(400);
  });
});

describe("policies of a repository", () => {
  test("protect what they cover from the moment they are made, and no longer than they last", async () => {
    const path = await repositoryWith(["v1.0", one], ["latest", one], [undefined, two]);
    const made = await owner.post(policyPath(path), { tagPattern: "v\\d+\\." });
    expect([made.status, Object.keys(made.body)]).toEqual([201, ["uuid"]]);
    const { uuid } = made.body;
    const policy = { uuid, tagPattern: "v\\d+\\.", tagPatternMatches: true };
    expect((await owner.get(policyPath(path))).body).toEqual({ policies: [policy] });
    expect((await owner.get(policyPath(path) + uuid)).body).toEqual(policy);
    expect([(await tagOf(path, "v1.0"))?.immutable, (await tagOf(path, "latest"))?.immutable]).toEqual([true, false]);
    expect((await push(path, "v1.0", two)).status).toBe(409);
    expect((await push(path, "latest", two)).status).toBe(201);
    expect((await push(path, "v2.0", one)).status).toBe(201);
    expect((await push(path, "v2.0", two)).status).toBe(409);
    expectRefused(await owner.delete(tagPath(path, "v2.0")));
    const changed = { tagPattern: "latest", tagPatternMatches: false };
    expect((await owner.put(policyPath(path) + uuid, changed)).status).toBe(204);
    expect((await owner.get(policyPath(path) + uuid)).body).toEqual({ uuid, ...changed });
    expect([(await tagOf(path, "v1.0"))?.immutable, (await tagOf(path, "latest"))?.immutable]).toEqual([true, false]);
    expect((await push(path, "anything", one)).status).toBe(201);
    expect((await push(path, "anything", two)).status).toBe(409);
    const gone = await owner.delete(policyPath(path) + uuid);
    expect([gone.status, gone.body]).toEqual([200, { uuid }]);
    expect((await push(path, "v1.0", two)).status).toBe(201);
    expect((await owner.delete(policyPath(path) + uuid)).status).toBe(404);
    expect((await owner.get(policyPath(path) + uuid)).status).toBe(404);
    expect((await owner.put(policyPath(path) + uuid, changed)).status).toBe(404);
  });
  test("are matched from the first character on, as Quay does, with no end unless it is said", async () => {
    const path = await repositoryWith(["v1", one], ["v1-debug", one], ["old-v1", one]);
    await owner.post(policyPath(path), { tagPattern: "  v1$  " });
    const immutable = async (tag: string) => (await tagOf(path, tag))?.immutable;
    expect([await immutable("v1"), await immutable("v1-debug"), await immutable("old-v1")]).toEqual([
      true,
      false,
      false,
    ]);
  });
  test("an admin can lift for one lifetime of a tag; the next is under the policy again", async () => {
    const path = await repositoryWith(["v1", one], [undefined, two]);
    await api.grant("writer", path, "write");
    await owner.post(policyPath(path), { tagPattern: "v" });
    expect((await setImmutable(path, "v1", false, await api.as("writer"))).status).toBe(403);
    expect((await setImmutable(path, "v1", false)).status).toBe(201);
    expect((await tagOf(path, "v1"))?.immutable).toBe(false);
    expect((await push(path, "v1", two)).status).toBe(201);
    expect((await tagOf(path, "v1"))?.immutable).toBe(true);
    expect((await push(path, "v1", one)).status).toBe(409);
  });
  test("quay.expires-after is ignored for what they cover", async () => {
    const path = await repositoryWith([undefined, expiring]);
    await owner.post(policyPath(path), { tagPattern: "release-" });
    await push(path, "release-1", expiring);
    await push(path, "nightly", expiring);
    expect((await tagOf(path, "release-1"))?.expiration).toBeUndefined();
    expect((await tagOf(path, "nightly"))?.expiration).toBeString();
    await owner.put(tagPath(path, "release-2"), { manifest_digest: expiring.digest });
    expect((await tagOf(path, "release-2"))?.expiration).toBeUndefined();
  });
  test("are refused while a living tag that they cover has an end", async () => {
    const path = await repositoryWith(["nightly-1", expiring], ["v1", one], ["nightly-gone", expiring]);
    await owner.delete(tagPath(path, "nightly-gone"));
    const refused = await owner.post(policyPath(path), { tagPattern: "nightly" });
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      'The tag "nightly-1" has an expiration, and the policy would make it immutable; clear the expiration first',
    ]);
    expect((await owner.post(policyPath(path), { tagPattern: "v", tagPatternMatches: false })).status).toBe(400);
    const { uuid } = (await owner.post(policyPath(path), { tagPattern: "v" })).body;
    expect((await owner.put(policyPath(path) + uuid, { tagPattern: "night" })).status).toBe(400);
    expect((await owner.get(policyPath(path))).body.policies).toEqual([
      { uuid, tagPattern: "v", tagPatternMatches: true },
    ]);
    await owner.put(tagPath(path, "nightly-1"), { expiration: null });
    expect((await owner.post(policyPath(path), { tagPattern: "nightly" })).status).toBe(201);
  });
  test("are refused when they are no pattern, there already, or too many", async () => {
    const path = await repositoryWith(["v1", one]);
    const bad = ["", "   ", "(", "a**", "(a)\\1", "(?=x)", "a".repeat(257), "((a{100}){100}){100}", "ä", "a\u0000"];
    for (const tagPattern of bad) {
      const answer = await owner.post(policyPath(path), { tagPattern });
      expect([tagPattern, answer.status, envelopeOf(answer).type]).toEqual([tagPattern, 400, "invalid_request"]);
    }
    for (const body of [{}, { tagPattern: 5 }, { tagPattern: null }, { tagPattern: "a", tagPatternMatches: "no" }]) {
      expect((await owner.post(policyPath(path), body)).status).toBe(400);
    }
    for (let position = 0; position < 20; position++) {
      expect((await owner.post(policyPath(path), { tagPattern: `p${position}-` })).status).toBe(201);
    }
    expect((await owner.post(policyPath(path), { tagPattern: "one-more" })).status).toBe(400);
    const [first, second] = (await owner.get(policyPath(path))).body.policies;
    await owner.delete(policyPath(path) + first.uuid);
    expect((await owner.post(policyPath(path), { tagPattern: "p3-", tagPatternMatches: false })).status).toBe(400);
    expect((await owner.put(policyPath(path) + second.uuid, { tagPattern: "p3-" })).status).toBe(400);
    expect(
      (await owner.put(policyPath(path) + second.uuid, { tagPattern: "p1-", tagPatternMatches: true })).status,
    ).toBe(204);
  });
  test("are refused when they cost too much together", async () => {
    const path = await repositoryWith(["v1", one]);
    const heavy = (letter: string) => ({ tagPattern: `(${letter}?){100}(${letter}?){100}` });
    for (const letter of ["a", "b"]) expect((await owner.post(policyPath(path), heavy(letter))).status).toBe(201);
    const refused = await owner.post(policyPath(path), heavy("c"));
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      expect.stringContaining("too complex together"),
    ]);
    const { uuid } = (await owner.post(policyPath(path), { tagPattern: "v" })).body;
    expect((await owner.put(policyPath(path) + uuid, heavy("c"))).status).toBe(400);
  });
  test("that a backtracking engine would take for ever cost a push nothing", async () => {
    const path = await repositoryWith([undefined, one]);
    expect((await owner.post(policyPath(path), { tagPattern: "^(a+)+$" })).status).toBe(201);
    expect((await owner.post(policyPath(path), { tagPattern: "^(a|aa)*b$" })).status).toBe(201);
    const startedMs = performance.now();
    expect((await push(path, `${"a".repeat(127)}.`, one)).status).toBe(201);
    expect(performance.now() - startedMs).toBeLessThan(1000);
  });
  test("belong to their repository and to its admins", async () => {
    const path = await repositoryWith(["v1", one]);
    const other = await repositoryWith(["v1", one]);
    await api.grant("writer", path, "write");
    const { uuid } = (await owner.post(policyPath(path), { tagPattern: "v" })).body;
    expect((await owner.get(policyPath(other) + uuid)).status).toBe(404);
    expect((await owner.put(policyPath(other) + uuid, { tagPattern: "x" })).status).toBe(404);
    expect((await owner.delete(policyPath(other) + uuid)).status).toBe(404);
    expect((await (await api.as("writer")).get(policyPath(path))).status).toBe(403);
    expect((await push(other, "v1", two)).status).not.toBe(409);
  });
});

describe("policies of an organization", () => {
  const base = "/organization/acme/immutabilitypolicy/";
  let admin: ApiClient;
  let acmeId: number;
  beforeAll(async () => {
    acmeId = await api.app.db.tx(async (tx) => {
      const nowMs = Date.now();
      const id = await insertAccount(tx, {
        kind: "organization",
        username: "acme",
        tagExpirationSeconds: 1_209_600,
        nowMs,
      });
      await tx.sql`/* test.team */
        insert into team (organization_id, name, role, created_ms) values (${id}, 'owners', 'admin', ${nowMs})`;
      const aliceId = await api.accountId("alice");
      await tx.sql`/* test.member */ insert into team_member (team_id, account_id) select id, ${aliceId} from team`;
      return id;
    });
    await Bun.sleep(260);
    admin = await api.as("alice");
  });

  test("hold in all its repositories and nowhere else, beside those of the repository", async () => {
    for (const name of ["a", "b"]) await publish(alice, `acme/${name}`, one, "v1");
    const elsewhere = await repositoryWith(["v1", one], [undefined, two]);
    const { uuid } = (await admin.post(base, { tagPattern: "v", tagPatternMatches: null })).body;
    await admin.post("/repository/acme/b/immutabilitypolicy/", { tagPattern: "b" });
    for (const name of ["a", "b"]) {
      await publish(alice, `acme/${name}`, two);
      expect((await push(`acme/${name}`, "v1", two)).status).toBe(409);
      expect((await push(`acme/${name}`, "b1", one)).status).toBe(201);
    }
    expect((await push("acme/a", "b1", two)).status).toBe(201);
    expect((await push("acme/b", "b1", two)).status).toBe(409);
    expect((await push(elsewhere, "v1", two)).status).toBe(201);
    expect((await admin.get(base)).body.policies.map((policy: { uuid: string }) => policy.uuid)).toEqual([uuid]);
    expect((await admin.get(`/repository/acme/a/immutabilitypolicy/${uuid}`)).status).toBe(404);
    expect((await admin.put(base + uuid, { tagPattern: "w" })).status).toBe(204);
    expect((await push("acme/a", "v1", two)).status).toBe(201);
    expect((await admin.delete(base + uuid)).body).toEqual({ uuid });
    const policies = { namespace: "acme", tag_pattern: "v", tag_pattern_matches: true };
    expect(await logged("create_immutability_policy", acmeId)).toEqual([
      policies,
      { namespace: "acme", repo: "b", tag_pattern: "b", tag_pattern_matches: true },
    ]);
    expect(await logged("update_immutability_policy", acmeId)).toEqual([{ ...policies, tag_pattern: "w" }]);
    expect(await logged("delete_immutability_policy", acmeId)).toEqual([{ namespace: "acme", policy_uuid: uuid }]);
  });
  test("look for tags with an end in all its repositories", async () => {
    await publish(alice, "acme/z", expiring, "temp-1");
    const refused = await admin.post(base, { tagPattern: "temp-" });
    expect([refused.status, envelopeOf(refused).detail]).toEqual([400, expect.stringContaining('The tag "temp-1"')]);
    expect((await admin.post(base, { tagPattern: "temp-2" })).status).toBe(201);
  });
  test("are for its admins", async () => {
    expect((await (await api.as("writer")).get(base)).status).toBe(403);
    expect((await (await api.as("writer")).post(base, { tagPattern: "x" })).status).toBe(403);
    expect((await (await api.nobody()).get(base)).status).toBe(401);
    expect((await admin.get("/organization/nosuch/immutabilitypolicy/")).status).toBe(404);
    expect((await admin.get(`${base}${absentDigest}`)).status).toBe(404);
  });
});

test("FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE lets immutable tags have an end", async () => {
  const other = await startApi({ FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE: true });
  try {
    const client = await other.user("alice");
    const session = await other.as("alice");
    await publish(client, "alice/x", one, "v1");
    await publish(client, "alice/x", expiring, "v2");
    expect((await session.put("/repository/alice/x/tag/v1", { immutable: true, expiration: inDays(5) })).status).toBe(
      201,
    );
    expect((await session.post("/repository/alice/x/immutabilitypolicy/", { tagPattern: "v" })).status).toBe(201);
    const { tags } = (await session.get("/repository/alice/x/tag/")).body;
    expect(
      tags.map((tag: { immutable: boolean; expiration?: string }) => [tag.immutable, tag.expiration !== undefined]),
    ).toEqual([
      [true, true],
      [true, true],
    ]);
    await client.pushManifest("alice/x", "v2", expiring.manifest, expiring.mediaType);
    expect((await session.delete("/repository/alice/x/tag/v2")).status).toBe(409);
  } finally {
    await other.stop();
  }
}, 30_000);

test("FEATURE_IMMUTABLE_TAGS off: nothing is immutable and nothing can be made so", async () => {
  const other = await startApi({ FEATURE_IMMUTABLE_TAGS: false });
  try {
    const client = await other.user("alice");
    const session = await other.as("alice");
    await publish(client, "alice/x", one, "v1");
    await publish(client, "alice/x", two);
    const { id } = await other.repository("alice/x");
    await other.app.db.tx(async (tx) => {
      await tx.sql`/* test.flag */ update tag set immutable = true where repository_id = ${id}`;
    });
    expect((await session.put("/repository/alice/x/tag/v1", { immutable: true })).status).toBe(400);
    expect((await session.get("/repository/alice/x/immutabilitypolicy/")).status).toBe(404);
    expect((await session.get("/repository/alice/x/tag/")).body.tags[0].immutable).toBe(false);
    expect((await client.pushManifest("alice/x", "v1", two.manifest, two.mediaType)).status).toBe(201);
    expect((await session.delete("/repository/alice/x/tag/v1")).status).toBe(204);
  } finally {
    await other.stop();
  }
}, 30_000);
