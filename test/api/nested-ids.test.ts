/**
 * Ids in a path belong to what stands before them: an id that exists below another parent answers as one that nobody has,
 * also to somebody who may do everything with both parents.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { password } from "../registry/harness.ts";
import { type Api, type ApiClient, startApi } from "./harness.ts";

let api: Api;
let boss: ApiClient;
let other: ApiClient;
let digest = "";

beforeAll(async () => {
  api = await startApi();
  await api.user("boss");
  await api.user("other");
  boss = await api.as("boss");
  other = await api.as("other");
  for (const name of ["one", "two"]) {
    expect((await boss.post("/organization/", { name })).status).toBe(201);
    const repository = { namespace: name, repository: "app", visibility: "private", description: "" };
    expect((await boss.post("/repository", repository)).status).toBe(201);
  }
  const client = api.client("boss", password);
  const pushed = await client.pushImage("one/app", "v1", { layers: 1 });
  digest = pushed.response.headers.get("docker-content-digest") ?? "";
  expect((await client.pushImage("two/app", "v1", { layers: 2 })).response.status).toBe(201);
}, 60_000);
afterAll(() => api.stop());

interface Row {
  readonly what: string;
  /** Makes it below the first parent and gives its id. */
  make(): Promise<string>;
  /** Where it is, with the id. */
  right(id: string): string;
  /** The same id below another parent. */
  wrong(id: string): string;
  readonly methods: readonly string[];
  readonly body?: Record<string, unknown>;
  /** Quay's status for what is not there; 404 but for robots. */
  readonly missing?: number;
  /** Who asks below the wrong parent, when that parent is an account. */
  readonly asks?: "other";
}

const made = async (path: string, body: unknown, id: (body: Record<string, never>) => string, put = false) => {
  const answer = put ? await boss.put(path, body) : await boss.post(path, body);
  if (answer.status >= 300) throw new Error(`${path}: ${answer.status} ${answer.text}`);
  return id(answer.body);
};
const uuidOf = (body: Record<string, never>) => String(body.uuid);
const policy = { method: "creation_date", value: "5d" };
const pattern = { tagPattern: "^release-" };
let teams = 0;

const ROWS: readonly Row[] = [
  {
    what: "default permission",
    make: () =>
      made(
        "/organization/one/prototypes",
        { role: "read", delegate: { kind: "user", name: "other" } },
        (b) => b.id ?? "",
      ),
    right: (id) => `/organization/one/prototypes/${id}`,
    wrong: (id) => `/organization/two/prototypes/${id}`,
    methods: ["PUT", "DELETE"],
    body: { role: "write" },
  },
  {
    what: "team",
    make: () => made(`/organization/one/team/team${++teams}`, { role: "member" }, (b) => b.name ?? "", true),
    right: (id) => `/organization/one/team/${id}/members`,
    wrong: (id) => `/organization/two/team/${id}/members`,
    methods: ["GET"],
  },
  {
    what: "robot",
    make: async () => {
      await boss.put("/organization/one/robots/ci", {});
      return "ci";
    },
    right: (id) => `/organization/one/robots/${id}`,
    wrong: (id) => `/organization/two/robots/${id}`,
    methods: ["GET", "DELETE"],
    missing: 400,
  },
  {
    what: "application",
    make: () => made("/organization/one/applications", { name: "tool" }, (b) => b.client_id ?? ""),
    right: (id) => `/organization/one/applications/${id}`,
    wrong: (id) => `/organization/two/applications/${id}`,
    methods: ["GET", "PUT", "DELETE"],
    body: { name: "tool", redirect_uri: "", application_uri: "" },
  },
  {
    what: "auto-prune policy of an organization",
    make: () => made("/organization/one/autoprunepolicy/", policy, uuidOf),
    right: (id) => `/organization/one/autoprunepolicy/${id}`,
    wrong: (id) => `/organization/two/autoprunepolicy/${id}`,
    methods: ["GET", "PUT", "DELETE"],
    body: policy,
  },
  {
    what: "auto-prune policy of a repository",
    make: () => made("/repository/one/app/autoprunepolicy/", policy, uuidOf),
    right: (id) => `/repository/one/app/autoprunepolicy/${id}`,
    wrong: (id) => `/repository/two/app/autoprunepolicy/${id}`,
    methods: ["GET", "PUT", "DELETE"],
    body: policy,
  },
  {
    what: "auto-prune policy of a user",
    make: () => made("/user/autoprunepolicy/", policy, uuidOf),
    right: (id) => `/user/autoprunepolicy/${id}`,
    wrong: (id) => `/user/autoprunepolicy/${id}`,
    methods: ["GET", "PUT", "DELETE"],
    body: policy,
    asks: "other",
  },
  {
    what: "immutability policy of an organization",
    make: () => made("/organization/one/immutabilitypolicy/", pattern, uuidOf),
    right: (id) => `/organization/one/immutabilitypolicy/${id}`,
    wrong: (id) => `/organization/two/immutabilitypolicy/${id}`,
    methods: ["GET", "PUT", "DELETE"],
    body: pattern,
  },
  {
    what: "immutability policy of a repository",
    make: () => made("/repository/one/app/immutabilitypolicy/", pattern, uuidOf),
    right: (id) => `/repository/one/app/immutabilitypolicy/${id}`,
    wrong: (id) => `/repository/two/app/immutabilitypolicy/${id}`,
    methods: ["GET", "PUT", "DELETE"],
    body: pattern,
  },
  {
    what: "manifest",
    make: async () => digest,
    right: (id) => `/repository/one/app/manifest/${id}`,
    wrong: (id) => `/repository/two/app/manifest/${id}`,
    methods: ["GET"],
  },
  {
    what: "app token",
    make: async () => {
      const answer = await boss.post("/user/apptoken", { title: "laptop" });
      return answer.body.token.uuid;
    },
    right: (id) => `/user/apptoken/${id}`,
    wrong: (id) => `/user/apptoken/${id}`,
    methods: ["GET", "DELETE"],
    asks: "other",
  },
];

describe.each(ROWS)("$what", (row) => {
  test.each([...row.methods])("%s below another parent finds nothing and changes nothing", async (method) => {
    const id = await row.make();
    const body = method === "PUT" ? row.body : undefined;
    const asked = await (row.asks ? other : boss).send(method, row.wrong(id), body);
    expect([asked.status, asked.text]).toEqual([row.missing ?? 404, expect.any(String)]);
    const there = await boss.send(method, row.right(id), body);
    expect(there.status).toBeLessThan(300);
    if (row.methods.includes("DELETE") && method !== "DELETE") await boss.delete(row.right(id));
  });
});

describe("label", () => {
  test("of another manifest finds nothing", async () => {
    const own = `/repository/one/app/manifest/${digest}/labels`;
    const label = await boss.post(own, { key: "team", value: "a", media_type: null });
    const { id } = label.body.label;
    const tags = await boss.get("/repository/two/app/tag/");
    const foreign = `/repository/two/app/manifest/${tags.body.tags[0].manifest_digest}/labels/${id}`;
    expect((await boss.get(foreign)).status).toBe(404);
    expect((await boss.delete(foreign)).status).toBe(404);
    expect((await boss.get(`${own}/${id}`)).status).toBe(200);
  });
});
