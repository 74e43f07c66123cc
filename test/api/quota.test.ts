/** Quotas of organizations and users: setting, seeing and limiting them. What a push may do under one is tested with pushes. */

import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

setDefaultTimeout(30_000);
let api: Api;
let su: ApiClient;
let boss: ApiClient;
let stranger: ApiClient;

beforeAll(async () => {
  api = await startApi({ FEATURE_QUOTA_MANAGEMENT: true });
  for (const name of ["boss", "stranger"]) await api.user(name);
  su = await api.as("admin");
  boss = await api.as("boss");
  stranger = await api.as("stranger");
  for (const name of ["acme", "other"]) expect((await boss.post("/organization/", { name })).status).toBe(201);
}, 60_000);
afterAll(() => api.stop());

const GIB = 1024 ** 3;
const ACME = "/organization/acme/quota";
const OTHER = "/organization/other/quota";
/** Every place where a namespace's quota can be set: its path, and what it says of a second one. */
const PLACES = [
  [ACME, "Organization quota for 'acme' already exists"],
  ["/superuser/organization/acme/quota", "Quota for 'acme' already exists"],
  ["/superuser/users/acme/quota", "Quota for 'acme' already exists"],
  ["/superuser/users/boss/quota", "Quota for 'boss' already exists"],
  ["/superuser/organization/boss/quota", "Quota for 'boss' already exists"],
] as const;

beforeEach(async () => {
  await api.app.db.tx(async (tx) => {
    await tx.sql`/* test.limits */ delete from namespace_quota_limit`;
    await tx.sql`/* test.quotas */ delete from namespace_quota`;
    await tx.sql`/* test.logs */ delete from action_log`;
  });
});

/** Sets a quota and gives its id. */
async function make(path: string, limitBytes = 1000): Promise<number> {
  const made = await su.post(path, { limit_bytes: limitBytes });
  expect([made.status, made.body]).toEqual([201, "Created"]);
  return (await su.get(path)).body[0].id;
}

/** Adds a limit and gives its id, as members see it. */
async function limit(quota: string, type: string, percent: number): Promise<number> {
  const made = await su.post(`${quota}/limit`, { type, threshold_percent: percent });
  expect([made.status, made.body]).toEqual([201, "Created"]);
  return (await boss.get(`${quota}/limit`)).body.at(-1).id;
}

const refusal = (answer: Awaited<ReturnType<ApiClient["get"]>>) => [answer.status, envelopeOf(answer).detail];

async function logged(name: string): Promise<Record<string, unknown>[]> {
  const id = await api.accountId(name);
  const rows = await api.app.db.sql<{ kind: string; metadata: string }>`/* test.logged */
    select kind, metadata from action_log where namespace_id = ${id} order by id`;
  return rows.map(({ kind, metadata }) => ({ kind, ...JSON.parse(metadata) }));
}

describe.each(PLACES)("%s", (path, existsText) => {
  const name = path.includes("boss") ? "boss" : "acme";

  test("sets, shows, changes and takes away a quota, each with its entry in the log", async () => {
    expect((await su.get(path)).body).toEqual([]);
    const id = await make(path, 10_485_760);
    const shown = { id, limit_bytes: 10_485_760, default_config: false, limits: [], default_config_exists: false };
    expect((await su.get(path)).body).toEqual([shown]);
    expect(refusal(await su.post(path, { limit_bytes: 1 }))).toEqual([400, existsText]);

    const larger = await su.put(`${path}/${id}`, { limit_bytes: 1.5 * GIB });
    expect([larger.status, larger.body]).toEqual([200, { ...shown, limit_bytes: 1.5 * GIB }]);
    const same = await su.put(`${path}/${id}`, {});
    expect([same.status, same.body]).toEqual([200, { ...shown, limit_bytes: 1.5 * GIB }]);

    const gone = await su.delete(`${path}/${id}`);
    expect([gone.status, gone.text]).toEqual([204, ""]);
    expect((await su.get(path)).body).toEqual([]);
    expect((await su.delete(`${path}/${id}`)).status).toBe(404);
    expect((await su.put(`${path}/${id}`, { limit_bytes: 5 })).status).toBe(404);
    const size = { limit_bytes: 1.5 * GIB, limit: "1.5 GiB" };
    expect(await logged(name)).toEqual([
      { kind: "org_create_quota", namespace: name, limit_bytes: 10_485_760, limit: "10.0 MiB" },
      {
        kind: "org_change_quota",
        namespace: name,
        ...size,
        previous_limit_bytes: 10_485_760,
        previous_limit: "10.0 MiB",
      },
      { kind: "org_delete_quota", namespace: name, quota_id: id, ...size },
    ]);
  });

  test("takes a number of bytes and nothing else", async () => {
    const id = await make(path, 4711);
    const unsupported = "Unsupported quota size limit.";
    const cases: [value: unknown, detail: string][] = [
      [0, "Invalid quota size limit value: '0'"],
      [-1, "Invalid quota size limit value: '-1'"],
      [1.5, "Invalid quota size limit value: '1.5'"],
      [2 ** 53, unsupported],
      [1e300, unsupported],
      ["10", expect.stringContaining("limit_bytes")],
      [true, expect.stringContaining("limit_bytes")],
      [[1], expect.stringContaining("limit_bytes")],
    ];
    for (const [value, detail] of cases) {
      expect([value, ...refusal(await su.put(`${path}/${id}`, { limit_bytes: value }))]).toEqual([value, 400, detail]);
    }
    expect((await su.get(path)).body[0].limit_bytes).toBe(4711);
    await su.delete(`${path}/${id}`);
    for (const [value, detail] of [...cases, [undefined, expect.stringContaining("limit_bytes")] as const]) {
      expect([value, ...refusal(await su.post(path, { limit_bytes: value }))]).toEqual([value, 400, detail]);
    }
    expect((await su.send("POST", path, '{"limit_bytes": 1e999}')).status).toBe(400);
    expect((await su.send("POST", path, "10")).status).toBe(400);
    expect((await su.send("POST", path)).status).toBe(400);
    expect((await su.get(path)).body).toEqual([]);
    expect(await make(path, Number.MAX_SAFE_INTEGER)).toBeGreaterThan(id);
    expect((await su.get(path)).body[0].limit_bytes).toBe(Number.MAX_SAFE_INTEGER);
  });

  test("of many who set one at once, one does", async () => {
    const sent = Array.from({ length: 12 }, (_, index) =>
      su.post(PLACES.filter(([each]) => each.includes(name))[index % 2]?.[0] ?? path, { limit_bytes: index + 1 }),
    );
    const answers = await Promise.all(sent);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 11 }, () => 400)]);
    for (const answer of answers.filter(({ status }) => status === 400)) {
      expect(envelopeOf(answer).detail).toContain(`uota for '${name}' already exists`);
    }
    const winner = answers.findIndex(({ status }) => status === 201) + 1;
    expect((await su.get(path)).body.map((quota: { limit_bytes: number }) => quota.limit_bytes)).toEqual([winner]);
    expect((await logged(name)).length).toBe(1);
  });
});

describe("limits", () => {
  test("are set, shown, changed and taken away, each with its entry in the log", async () => {
    const id = await make(ACME);
    const quota = `${ACME}/${id}`;
    const warning = await limit(quota, "wArNiNg", 50);
    const reject = await limit(quota, "REJECT", 80);
    const limits = [
      { id: warning, type: "Warning", limit_percent: 50 },
      { id: reject, type: "Reject", limit_percent: 80 },
    ];
    expect((await boss.get(`${quota}/limit`)).body).toEqual(limits);
    expect((await boss.get(`${quota}/limit/${reject}`)).body).toEqual(limits[1]);
    const shown = { id, limit_bytes: 1000, default_config: false, limits, default_config_exists: false };
    expect((await boss.get(quota)).body).toEqual(shown);
    expect((await boss.get(ACME)).body).toEqual([shown]);
    expect((await su.get("/superuser/users/acme/quota")).body).toEqual([shown]);
    const view = (await boss.get("/organization/acme")).body;
    expect(view.quotas).toEqual([{ id, limit_bytes: 1000, limits }]);
    expect(view.quota_report).toMatchObject({ configured_quota: 1000 });

    const changed = { ...shown, limits: [limits[0], { id: reject, type: "Reject", limit_percent: 90 }] };
    const answer = await su.put(`${quota}/limit/${reject}`, { threshold_percent: 90 });
    expect([answer.status, answer.body]).toEqual([200, changed]);
    expect((await su.put(`${quota}/limit/${reject}`, {})).body).toEqual(changed);
    expect((await boss.get(quota)).body).toEqual(changed);
    expect((await su.put(`${quota}/limit/${warning}`, { type: "warning" })).body).toEqual(changed);

    const gone = await su.delete(`${quota}/limit/${warning}`);
    expect([gone.status, gone.text]).toEqual([204, ""]);
    expect((await boss.get(`${quota}/limit/${warning}`)).status).toBe(404);
    expect((await su.delete(`${quota}/limit/${warning}`)).status).toBe(404);
    expect((await su.put(`${quota}/limit/${warning}`, { type: "Warning" })).status).toBe(404);
    expect((await logged("acme")).slice(1)).toEqual([
      { kind: "org_create_quota_limit", namespace: "acme", type: "Warning", threshold_percent: 50 },
      { kind: "org_create_quota_limit", namespace: "acme", type: "Reject", threshold_percent: 80 },
      {
        kind: "org_change_quota_limit",
        namespace: "acme",
        type: "Reject",
        threshold_percent: 90,
        previous_type: "Reject",
        previous_threshold_percent: 80,
      },
      { kind: "org_delete_quota_limit", namespace: "acme", limit_id: warning, type: "Warning", threshold_percent: 50 },
    ]);
    expect((await su.delete(quota)).status).toBe(204);
    const left = await api.app.db.sql`/* test.left */ select id from namespace_quota_limit`;
    expect(left).toEqual([]);
  });

  test("are one Reject at most, and none twice, however they come about", async () => {
    const quota = `${ACME}/${await make(ACME)}`;
    const reject = await limit(quota, "Reject", 80);
    const warning = await limit(quota, "Warning", 80);
    const other = await limit(quota, "Warning", 70);
    const twice = [400, "Quota limit already exists"];
    const one = [400, "Only one quota limit of type 'Reject' allowed."];
    const post = (type: string, threshold_percent: number) => su.post(`${quota}/limit`, { type, threshold_percent });
    expect(refusal(await post("reject", 80))).toEqual(twice);
    expect(refusal(await post("Warning", 70))).toEqual(twice);
    expect(refusal(await post("Reject", 81))).toEqual(one);
    const put = (id: number, body: object) => su.put(`${quota}/limit/${id}`, body);
    expect(refusal(await put(other, { threshold_percent: 80 }))).toEqual(twice);
    expect(refusal(await put(warning, { type: "Reject" }))).toEqual(twice);
    expect(refusal(await put(other, { type: "Reject" }))).toEqual(one);
    expect(refusal(await put(reject, { type: "Warning" }))).toEqual(twice);
    expect((await put(reject, { type: "Warning", threshold_percent: 60 })).status).toBe(200);
    const racing = await Promise.all([10, 20, 30, 40, 50].map((percent) => post("Reject", percent)));
    expect(racing.map(({ status }) => status).sort()).toEqual([201, 400, 400, 400, 400]);
    const { body } = await boss.get(`${quota}/limit`);
    expect(body.filter(({ type }: { type: string }) => type === "Reject").length).toBe(1);
  });

  test("have a type and a percentage of Quay's", async () => {
    const quota = `${ACME}/${await make(ACME)}`;
    const id = await limit(quota, "Warning", 50);
    const bounds = "Quota limit threshold must be between 1 and 100";
    const types = "Quota type must be one of [Warning, Reject]";
    const cases: [body: Record<string, unknown>, detail: string][] = [
      [{ type: "Reject", threshold_percent: 0 }, bounds],
      [{ type: "Reject", threshold_percent: 101 }, bounds],
      [{ type: "Reject", threshold_percent: -5 }, bounds],
      [{ type: "Reject", threshold_percent: 50.5 }, bounds],
      [{ type: "Reject", threshold_percent: 2 ** 53 }, bounds],
      [{ type: "Reject", threshold_percent: "50" }, expect.stringContaining("threshold_percent")],
      [{ type: "Reject", threshold_percent: null }, expect.stringContaining("threshold_percent")],
      [{ type: "Error", threshold_percent: 50 }, types],
      [{ type: "", threshold_percent: 50 }, types],
      [{ type: "constructor", threshold_percent: 50 }, types],
      [{ type: "REJEKT".repeat(20_000), threshold_percent: 50 }, types],
      [{ type: "Reject\u0000", threshold_percent: 50 }, expect.stringContaining("NUL")],
      [{ type: 1, threshold_percent: 50 }, expect.stringContaining("type")],
    ];
    for (const [body, detail] of cases) {
      expect([body, ...refusal(await su.post(`${quota}/limit`, body))]).toEqual([body, 400, detail]);
      expect([body, ...refusal(await su.put(`${quota}/limit/${id}`, body))]).toEqual([body, 400, detail]);
    }
    for (const body of [{}, { type: "Reject" }, { threshold_percent: 5 }]) {
      expect((await su.post(`${quota}/limit`, body)).status).toBe(400);
    }
    expect((await boss.get(`${quota}/limit`)).body).toEqual([{ id, type: "Warning", limit_percent: 50 }]);
    for (const percent of [1, 100]) await limit(quota, "Warning", percent);
  });
});

describe("ids", () => {
  test("of another namespace or quota, and those that are none, are not found", async () => {
    const acme = await make(ACME);
    const other = await make(OTHER);
    const boss1 = await make("/superuser/users/boss/quota");
    const ofAcme = await limit(`${ACME}/${acme}`, "Warning", 50);
    const ofOther = await limit(`${OTHER}/${other}`, "Reject", 60);
    const wrong = [
      other,
      boss1,
      0,
      -1,
      "x",
      "1x",
      `0${acme}`,
      "1e0",
      "%2B1",
      "9".repeat(15),
      "9".repeat(16),
      "9".repeat(40),
    ];
    const body = { limit_bytes: 7, type: "Reject", threshold_percent: 7 };
    for (const id of wrong) {
      for (const path of [`${ACME}/${id}`, `${ACME}/${id}/limit`, `${ACME}/${id}/limit/${ofAcme}`]) {
        const isList = path.endsWith("/limit");
        expect([path, (await boss.get(path)).status]).toEqual([path, 404]);
        expect([path, (await su.send(isList ? "POST" : "PUT", path, body)).status]).toEqual([path, 404]);
        if (!isList) expect([path, (await su.delete(path)).status]).toEqual([path, 404]);
      }
      if (id === boss1) continue;
      for (const path of [`/superuser/users/boss/quota/${id}`, `/superuser/organization/boss/quota/${id}`]) {
        expect([path, (await su.put(path, body)).status, (await su.delete(path)).status]).toEqual([path, 404, 404]);
      }
      expect((await boss.get(`/user/quota/${id}`)).status).toBe(404);
      expect((await boss.get(`/user/quota/${id}/limit`)).status).toBe(404);
    }
    for (const id of [ofOther, 0, "x"]) {
      const path = `${ACME}/${acme}/limit/${id}`;
      expect([path, (await boss.get(path)).status]).toEqual([path, 404]);
      expect([path, (await su.put(path, body)).status, (await su.delete(path)).status]).toEqual([path, 404, 404]);
    }
    expect((await boss.get(ACME)).body[0]).toMatchObject({ limit_bytes: 1000, limits: [{ limit_percent: 50 }] });
    expect((await boss.get(OTHER)).body[0]).toMatchObject({ limit_bytes: 1000, limits: [{ limit_percent: 60 }] });
  });

  test("of namespaces that are not there, or are of another kind, are not found", async () => {
    await api.robot("acme", "ci");
    const body = { limit_bytes: 5 };
    for (const path of [
      "/organization/nosuch/quota",
      "/organization/boss/quota",
      "/superuser/users/nosuch/quota",
      "/superuser/organization/nosuch/quota",
      "/superuser/users/acme+ci/quota",
    ]) {
      expect([path, (await su.get(path)).status, (await su.post(path, body)).status]).toEqual([path, 404, 404]);
      expect([path, (await su.put(`${path}/1`, body)).status]).toEqual([path, 404]);
      const reject = { type: "Reject", threshold_percent: 5 };
      expect([path, (await su.post(`${path}/1/limit`, reject)).status]).toEqual([path, 404]);
    }
  });
});

describe("who", () => {
  test("sets a quota is a superuser; members see it, others do not", async () => {
    const quota = `${ACME}/${await make(ACME)}`;
    const path = `${quota}/limit/${await limit(quota, "Reject", 80)}`;
    const body = { limit_bytes: 5, type: "Warning", threshold_percent: 7 };
    for (const [method, at] of [
      ["POST", ACME],
      ["PUT", quota],
      ["DELETE", quota],
      ["POST", `${quota}/limit`],
      ["PUT", path],
      ["DELETE", path],
    ] as const) {
      expect([at, (await boss.send(method, at, body)).status]).toEqual([at, 403]);
    }
    for (const at of [ACME, quota, `${quota}/limit`, path]) {
      expect([at, (await boss.get(at)).status]).toEqual([at, 200]);
      expect([at, (await stranger.get(at)).status]).toEqual([at, 403]);
      expect([at, (await (await api.nobody()).get(at)).status]).toEqual([at, 401]);
    }
    // As in Quay, a superuser who is no member sees the quota with its limits, but not the limits' own routes.
    expect([(await su.get(ACME)).status, (await su.get(quota)).status]).toEqual([200, 200]);
    expect([(await su.get(`${quota}/limit`)).status, (await su.get(path)).status]).toEqual([403, 403]);
  });

  test("has a quota sees it as its own, and changes nothing of it", async () => {
    expect((await boss.get("/user/quota")).body).toEqual([]);
    const id = await make("/superuser/users/boss/quota", 2000);
    // As in Quay, limits of a user's quota are set by the routes of organizations.
    expect(
      (await su.post(`/organization/boss/quota/${id}/limit`, { type: "Reject", threshold_percent: 75 })).status,
    ).toBe(201);
    const { body } = await boss.get("/user/quota");
    const limits = [{ id: expect.any(Number), type: "Reject", limit_percent: 75 }];
    expect(body).toEqual([{ id, limit_bytes: 2000, default_config: false, limits, default_config_exists: false }]);
    expect((await boss.get(`/user/quota/${id}`)).body).toEqual(body[0]);
    expect((await boss.get(`/user/quota/${id}/limit`)).body).toEqual(limits);
    const one = body[0].limits[0];
    expect((await boss.get(`/user/quota/${id}/limit/${one.id}`)).body).toEqual(one);
    expect((await boss.get(`/user/quota/${id}/limit/${one.id + 1}`)).status).toBe(404);
    expect((await boss.get("/user/")).body.quotas).toEqual([{ id, limit_bytes: 2000, limits }]);
    expect((await stranger.get(`/user/quota/${id}`)).status).toBe(404);
    for (const method of ["PUT", "DELETE"]) {
      expect((await boss.send(method, `/user/quota/${id}`, { limit_bytes: 1 })).status).toBe(405);
    }
    expect((await boss.post("/user/quota", { limit_bytes: 1 })).status).toBe(405);
  });

  test("verified the password long ago does so again before it sets one", async () => {
    const id = await make("/superuser/users/boss/quota");
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.stale */ update session set fresh_ms = 0`;
    });
    const one = `/superuser/users/boss/quota/${id}`;
    for (const answer of [
      await su.get("/superuser/users/boss/quota"),
      await su.post("/superuser/users/stranger/quota", { limit_bytes: 5 }),
      await su.put(one, { limit_bytes: 5 }),
    ]) {
      expect([answer.status, envelopeOf(answer).type]).toEqual([401, "fresh_login_required"]);
    }
    expect((await su.post(OTHER, { limit_bytes: 5 })).status).toBe(201);
    expect((await su.delete(one)).status).toBe(204);
    [su, boss, stranger] = [await api.as("admin"), await api.as("boss"), await api.as("stranger")];
  });
});

test("counts of an earlier generation are none", async () => {
  const client = api.client("boss", "correct-horse-battery");
  expect((await client.pushImage("boss/app", "v1", { layers: 1 })).response.status).toBe(201);
  const [repositoryId, bossId] = [(await api.repository("boss/app")).id, await api.accountId("boss")];
  const set = (own: number) =>
    api.app.db.tx(async (tx) => {
      await tx.sql`/* test.forget */ delete from namespace_usage where namespace_id = ${bossId}`;
      await tx.sql`/* test.forget2 */ delete from repository_usage where repository_id = ${repositoryId}`;
      await tx.sql`/* test.namespace */ insert into namespace_usage (namespace_id, generation, size_bytes, backfill_state)
        values (${bossId}, 3, 700, 'running')`;
      await tx.sql`/* test.repository */
        insert into repository_usage (repository_id, generation, counted_through, size_bytes)
        values (${repositoryId}, ${own}, 1, 500)`;
    });
  const shown = async () => (await boss.get("/repository?namespace=boss")).body.repositories[0].quota_report;
  await make("/superuser/users/boss/quota", 9000);
  await set(3);
  expect(await shown()).toEqual({ quota_bytes: 500, configured_quota: 9000 });
  await set(2);
  expect(await shown()).toEqual({ quota_bytes: 0, configured_quota: 9000 });
  const report = { quota_bytes: 700, configured_quota: 9000, running_backfill: "running", backfill_status: "running" };
  expect((await boss.get("/user/")).body.quota_report).toEqual(report);
  expect((await su.get("/superuser/users/boss")).body.quota_report).toEqual(report);
  await api.app.db.tx(async (tx) => {
    await tx.sql`/* test.drop */ update namespace_usage set backfill_state = 'dropped', generation = 4, size_bytes = 0`;
  });
  expect((await boss.get("/user/")).body.quota_report).toMatchObject({ quota_bytes: 0, backfill_status: "waiting" });
});

describe("the registry's default", () => {
  test("stands for the quota of an organization without one, and has no id", async () => {
    const other = await startApi({ FEATURE_QUOTA_MANAGEMENT: true, DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: 2_097_152 });
    try {
      const admin = await other.as("admin");
      await admin.post("/organization/", { name: "acme" });
      await admin.post("/repository", { namespace: "acme", repository: "app", visibility: "private", description: "" });
      const shared = { limit_bytes: 2_097_152, default_config_exists: true };
      expect((await admin.get(ACME)).body).toEqual([{ id: null, ...shared, default_config: true, limits: [] }]);
      // As in Quay: only an organization's list shows the default.
      expect((await admin.get("/superuser/organization/acme/quota")).body).toEqual([]);
      expect((await admin.get("/user/quota")).body).toEqual([]);
      const view = (await admin.get("/organization/acme")).body;
      expect([view.quotas, view.quota_report.configured_quota]).toEqual([[], 2_097_152]);
      const { repositories } = (await admin.get("/repository?namespace=acme")).body;
      expect(repositories[0].quota_report.configured_quota).toBe(2_097_152);
      expect((await admin.post(ACME, { limit_bytes: 10 })).status).toBe(201);
      const [own] = (await admin.get(ACME)).body;
      expect(own).toMatchObject({ limit_bytes: 10, default_config: false, default_config_exists: true });
      expect((await admin.get("/repository?namespace=acme")).body.repositories[0].quota_report.configured_quota).toBe(
        10,
      );
    } finally {
      await other.stop();
    }
  });
});

test.each([
  ["FEATURE_QUOTA_MANAGEMENT off", { FEATURE_QUOTA_MANAGEMENT: false }],
  ["FEATURE_EDIT_QUOTA off", { FEATURE_QUOTA_MANAGEMENT: true, FEATURE_EDIT_QUOTA: false }],
  ["FEATURE_SUPER_USERS off", { FEATURE_QUOTA_MANAGEMENT: true, FEATURE_SUPER_USERS: false }],
])("%s: there are no such routes", async (_, config) => {
  const other = await startApi(config);
  try {
    const admin = await other.as("admin");
    await admin.post("/organization/", { name: "acme" });
    for (const path of [ACME, `${ACME}/1`, `${ACME}/1/limit`, "/user/quota", "/superuser/users/admin/quota"]) {
      expect([path, (await admin.get(path)).status]).toEqual([path, 404]);
    }
    const shown = "FEATURE_SUPER_USERS" in config;
    expect("quotas" in (await admin.get("/organization/acme")).body).toBe(shown);
    expect("quota_report" in (await admin.get("/user/")).body).toBe(shown);
  } finally {
    await other.stop();
  }
});
