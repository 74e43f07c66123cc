/**
 * What was deleted and comes back: repositories with everything that was theirs, and until when. Organizations and users are
 * `undelete-namespace.test.ts`.
 */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { RepositoryPath } from "../../src/oci/names.ts";
import { type ApiClient, envelopeOf } from "../api/harness.ts";
import { password } from "../registry/harness.ts";
import type { PushedImage, RegistryClient } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld, windowMs } from "./world.ts";

setDefaultTimeout(60_000);

const minuteMs = 60_000;

let world: GcWorld;
let client: RegistryClient;
let su: ApiClient;
beforeAll(async () => {
  world = await startGcWorld({ TAG_EXPIRATION_OPTIONS: ["0s", "1d", "2w", "4w"] });
  client = world.api.admin;
  su = await world.api.as("admin");
  for (const name of ["reader", "stranger"]) await world.api.user(name);
}, 120_000);
afterAll(() => world?.stop());

interface Listed {
  uuid: string;
  namespace: string;
  name: string;
  is_public: boolean;
  deleted_at: string;
  restorable_until: string;
  size_bytes: number | null;
}

async function deletedOf(base: string, who: ApiClient = su): Promise<Listed[]> {
  const answer = await who.get(`${base}/deleted`);
  expect(answer.status).toBe(200);
  return answer.body.repositories;
}

/** Deletes a repository of the admin and gives what the list says of it. */
async function deleteOwn(name: string): Promise<Listed> {
  expect((await su.delete(`/repository/admin/${name}`)).status).toBe(204);
  const [latest] = await deletedOf("/user");
  if (latest?.name !== name) throw new Error(`${name} is not the latest that was deleted`);
  return latest;
}

const restore = (base: string, uuid: string, body: unknown = {}, who = su) =>
  who.post(`${base}/deleted/${uuid}/restore`, body);
const digestOf = async (repository: string, reference: string) =>
  (await client.pullManifest(repository, reference)).headers.get("docker-content-digest");

async function expectWhole(repository: string, tag: string, image: PushedImage): Promise<void> {
  expect(await digestOf(repository, tag)).toBe(image.descriptor.digest);
  for (const { digest } of [image.config, ...image.layers]) {
    const blob = await client.pullBlob(repository, digest);
    expect([blob.status, (await blob.arrayBuffer()).byteLength > 0]).toEqual([200, true]);
  }
}

async function removeTag(repository: string, tag: string): Promise<void> {
  const scope = `repository:${repository}:delete`;
  const response = await client.request(`/v2/${repository}/manifests/${tag}`, { method: "DELETE", scope });
  expect(response.status).toBe(202);
}

describe("a repository of an organization", () => {
  const base = "/repository/acme/app";
  let images: PushedImage[];
  let before: Record<string, unknown>;
  let uuid: string;

  /** All that the API shows of it. */
  async function everything(path = base): Promise<Record<string, unknown>> {
    const parts = {
      repository: path,
      tags: `${path}/tag/`,
      users: `${path}/permissions/user/`,
      teams: `${path}/permissions/team/`,
      autoprune: `${path}/autoprunepolicy/`,
      immutability: `${path}/immutabilitypolicy/`,
      labels: `${path}/manifest/${images[1]?.descriptor.digest}/labels`,
    };
    const entries = await Promise.all(
      Object.entries(parts).map(async ([name, at]) => {
        const answer = await su.get(at);
        expect([name, answer.status]).toEqual([name, 200]);
        return [name, answer.body] as const;
      }),
    );
    return Object.fromEntries(entries);
  }

  const mentions = (text: string) => /"app"|acme\/app/.test(text);

  /** What lists it while it lives. */
  async function lists(): Promise<[path: string, text: string][]> {
    const reader = await world.api.as("reader");
    const all: [ApiClient, string][] = [
      [su, "/repository?namespace=acme&public=true"],
      [su, "/repository?public=true"],
      [reader, "/repository?starred=true"],
      [reader, "/user/starred"],
      [su, "/find/repositories?query=app"],
      [su, "/find/all?query=app"],
      [su, "/organization/acme/team/devs/permissions"],
      [su, "/organization/acme/robots?permissions=true"],
      [su, "/organization/acme/robots/ci/permissions"],
      [su, "/organization/acme/collaborators"],
    ];
    return Promise.all(
      all.map(async ([who, path]) => {
        const answer = await who.get(path);
        expect([path, answer.status]).toEqual([path, 200]);
        return [path, answer.text];
      }),
    );
  }

  beforeAll(async () => {
    expect((await su.post("/organization/", { name: "acme", email: "acme@example.com" })).status).toBe(201);
    expect((await su.put("/organization/acme/robots/ci", {})).status).toBe(201);
    expect((await su.put("/organization/acme/team/devs", { role: "member" })).status).toBe(200);
    images = [await client.pushImage("acme/app", "v1"), await client.pushImage("acme/app", "v1")];
    images.push(await client.pushImage("acme/app", "gone"));
    await removeTag("acme/app", "gone");
    const said = async (sent: Promise<{ status: number }>) => expect((await sent).status).toBeLessThan(300);
    await said(su.put(base, { description: "what it is for" }));
    await said(su.post(`${base}/changevisibility`, { visibility: "public" }));
    await said(su.put(`${base}/permissions/user/reader`, { role: "write" }));
    await said(su.put(`${base}/permissions/user/acme+ci`, { role: "read" }));
    await said(su.put(`${base}/permissions/team/devs`, { role: "read" }));
    await said(su.post(`${base}/autoprunepolicy/`, { method: "number_of_tags", value: 100 }));
    await said(su.post(`${base}/immutabilitypolicy/`, { tagPattern: "^release-" }));
    const label = { key: "team", value: "one", media_type: "text/plain" };
    await said(su.post(`${base}/manifest/${images[1]?.descriptor.digest}/labels`, label));
    const reader = await world.api.as("reader");
    await said(reader.post("/user/starred", { namespace: "acme", repository: "app" }));
    before = await everything();
    for (const [path, text] of await lists()) expect([path, mentions(text)]).toEqual([path, true]);
    // Another process than the server's remembers it, too.
    expect((await world.api.app.lookup.repository("acme/app" as RepositoryPath))?.name).toBe("app");
  });

  test("is nowhere once it was deleted", async () => {
    expect((await su.delete(base)).status).toBe(204);
    const deadline = performance.now() + 10_000;
    const path = "acme/app" as RepositoryPath;
    while ((await world.api.app.lookup.repository(path)) && performance.now() < deadline) await Bun.sleep(20);
    expect(await world.api.app.lookup.repository(path)).toBeUndefined();
    const [listed] = await deletedOf("/organization/acme");
    expect(listed).toMatchObject({ namespace: "acme", name: "app", is_public: true, size_bytes: null });
    const windowOf = Date.parse(listed?.restorable_until ?? "") - Date.parse(listed?.deleted_at ?? "");
    expect(Math.abs(windowOf - windowMs)).toBeLessThanOrEqual(1000);
    uuid = listed?.uuid ?? "";

    for (const path of ["", "/tag/", "/permissions/user/", "/logs"])
      expect((await su.get(base + path)).status).toBe(404);
    const reader = world.api.client("reader", password);
    for (const who of [client, reader, world.api.anonymous]) {
      for (const path of ["acme/app", `acme/${uuid}`, uuid]) {
        const status = (await who.pullManifest(path, "v1")).status;
        expect(status === 401 || status === 404).toBe(true);
      }
      const catalog = (await (await who.request("/v2/_catalog")).json()) as { repositories?: string[] };
      expect((catalog.repositories ?? []).filter((path) => path.includes(uuid) || path === "acme/app")).toEqual([]);
    }
    for (const [path, text] of await lists()) {
      expect([path, mentions(text), text.includes(uuid)]).toEqual([path, false, false]);
    }
    const { teams } = (await su.get("/organization/acme")).body;
    expect(teams.devs.repo_count).toBe(0);
  });

  test("is for its namespace's admins alone to bring back", async () => {
    const stranger = await world.api.as("stranger");
    const reader = await world.api.as("reader");
    for (const who of [stranger, reader]) {
      expect((await who.get("/organization/acme/deleted")).status).toBe(403);
      expect((await restore("/organization/acme", uuid, {}, who)).status).toBe(403);
      expect((await who.delete(`/organization/acme/deleted/${uuid}`)).status).toBe(403);
      // Nor through one's own list.
      expect((await restore("/user", uuid, {}, who)).status).toBe(404);
      expect((await who.delete(`/user/deleted/${uuid}`)).status).toBe(404);
      expect(await deletedOf("/user", who)).toEqual([]);
    }
    expect((await restore("/user", uuid)).status).toBe(404);
    expect((await restore("/organization/acme", crypto.randomUUID())).status).toBe(404);
  });

  test("comes back with all that was its own", async () => {
    await world.pass(windowMs - dayMs);
    expect((await world.collect()).repositories).toBe(0);
    expect((await restore("/organization/acme", uuid)).body).toEqual({ namespace: "acme", name: "app" });
    expect(await deletedOf("/organization/acme")).toEqual([]);
    const now = await everything();
    expect(Object.keys(now)).toEqual(Object.keys(before));
    for (const part of ["users", "teams", "autoprune", "immutability", "labels"])
      expect(now[part]).toEqual(before[part]);
    // Time has passed for the test, and what is told in times with it.
    const timeless = (body: unknown) =>
      JSON.parse(JSON.stringify(body, (key, value) => (/_ts$|last_modified|expiration/.test(key) ? undefined : value)));
    for (const part of ["repository", "tags"]) expect(timeless(now[part])).toEqual(timeless(before[part]));
    await expectWhole("acme/app", "v1", images[1] as PushedImage);
    const goneDigest = images[2]?.descriptor.digest;
    expect((await su.post(`${base}/tag/gone/restore`, { manifest_digest: goneDigest })).status).toBe(200);
    await expectWhole("acme/app", "gone", images[2] as PushedImage);
    for (const [path, text] of await lists()) expect([path, mentions(text)]).toEqual([path, true]);
    const found = await world.api.app.lookup.repository("acme/app" as RepositoryPath);
    expect([found?.state, found?.visibility]).toEqual(["NORMAL", "public"]);
  });

  test("is collected afterwards as any other", async () => {
    await removeTag("acme/app", "gone");
    await world.pass(windowMs + minuteMs);
    await world.collect();
    expect(await digestOf("acme/app", images[2]?.descriptor.digest ?? "")).toBeNull();
    await expectWhole("acme/app", "v1", images[1] as PushedImage);
    const stored = await world.stored();
    expect(stored).not.toContain(images[0]?.config.digest ?? "");
    expect(stored).toContain(images[1]?.config.digest ?? "");
    expect((await world.collect()).isEmpty).toBe(true);
  });

  test("leaves what was done in the log", async () => {
    const { logs } = (await su.get("/organization/acme/logs")).body;
    const entries = logs.filter(({ kind }: { kind: string }) => kind === "delete_repo" || kind === "restore_repo");
    expect(entries.map(({ kind }: { kind: string }) => kind)).toEqual(["restore_repo", "delete_repo"]);
    expect(entries[0].metadata).toMatchObject({ repo: "app", namespace: "acme" });
  });
});

describe("a name that was taken meanwhile", () => {
  test("is refused in words, and another one does", async () => {
    const old = await client.pushImage("admin/name", "v1");
    const { uuid } = await deleteOwn("name");
    const young = await client.pushImage("admin/name", "v1");
    const refused = await restore("/user", uuid);
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      'There is a repository "admin/name" again: restore under another name, given as "name"',
    ]);
    for (const name of ["Upper", "with space", "-dash", "x".repeat(300)]) {
      expect((await restore("/user", uuid, { name })).status).toBe(400);
    }
    expect((await deletedOf("/user")).map((one) => one.uuid)).toEqual([uuid]);
    expect((await restore("/user", uuid, { name: "old-name" })).body).toEqual({ namespace: "admin", name: "old-name" });
    await expectWhole("admin/name", "v1", young);
    await expectWhole("admin/old-name", "v1", old);
    expect((await su.get("/find/repositories?query=old")).text).toContain('"old-name"');
    expect((await restore("/user", uuid)).status).toBe(404);
  });

  test("can be deleted again and again: the list holds all of them, the latest first, in pages", async () => {
    const uuids: string[] = [];
    for (let n = 0; n < 3; n++) {
      await client.pushImage("admin/again", "v1");
      uuids.unshift((await deleteOwn("again")).uuid);
      await world.pass(minuteMs);
    }
    const [first, rest] = [await su.get("/user/deleted?limit=2"), []];
    expect(first.body.repositories.map((one: Listed) => one.uuid)).toEqual(uuids.slice(0, 2));
    const next = await su.get(`/user/deleted?limit=2&next_page=${encodeURIComponent(first.body.next_page)}`);
    expect(next.body.repositories.map((one: Listed) => one.uuid)).toEqual([...uuids.slice(2), ...rest]);
    expect(next.body.next_page).toBeUndefined();
    for (const uuid of uuids) expect((await su.delete(`/user/deleted/${uuid}`)).status).toBe(204);
    expect(await deletedOf("/user")).toEqual([]);
    expect((await world.collect()).repositories).toBe(3);
  });
});

describe("its time", () => {
  const setWindow = async (seconds: number) =>
    expect((await su.put("/user/", { tag_expiration_s: seconds })).status).toBe(200);

  test("is over with the window, and nothing of it is left", async () => {
    const image = await client.pushImage("admin/over", "v1");
    const { uuid } = await deleteOwn("over");
    await world.pass(windowMs - minuteMs);
    expect((await world.collect()).repositories).toBe(0);
    expect(await world.stored()).toContain(image.config.digest);
    await world.pass(2 * minuteMs);
    expect((await world.collect()).repositories).toBe(1);
    expect(await world.stored()).not.toContain(image.config.digest);
    expect((await restore("/user", uuid)).status).toBe(404);
    expect(await deletedOf("/user")).toEqual([]);
  });

  test("follows the window of the namespace when that is changed", async () => {
    for (const name of ["shorter", "longer"]) await client.pushImage(`admin/${name}`, "v1");
    await deleteOwn("longer");
    await setWindow(28 * 86_400);
    await world.pass(windowMs + dayMs);
    expect((await world.collect()).repositories).toBe(0);
    const [longer] = await deletedOf("/user");
    expect((await restore("/user", longer?.uuid ?? "")).status).toBe(200);
    await deleteOwn("shorter");
    await setWindow(86_400);
    await world.pass(dayMs + minuteMs);
    expect((await world.collect()).repositories).toBe(1);
    expect(await deletedOf("/user")).toEqual([]);
    await setWindow(14 * 86_400);
  });

  test("is none without a window: it goes at once", async () => {
    await setWindow(0);
    const image = await client.pushImage("admin/none", "v1");
    expect((await su.delete("/repository/admin/none")).status).toBe(204);
    expect(await deletedOf("/user")).toEqual([]);
    expect((await world.collect()).repositories).toBe(1);
    await world.pass(2 * minuteMs);
    await world.collect();
    expect(await world.stored()).not.toContain(image.config.digest);
    await setWindow(14 * 86_400);
  });

  test("goes on for what is in it: a tag that was deleted before is collected when its own window is over", async () => {
    const [kept, gone] = [
      await client.pushImage("admin/inside", "kept"),
      await client.pushImage("admin/inside", "gone"),
    ];
    await removeTag("admin/inside", "gone");
    await world.pass(10 * dayMs);
    const { uuid } = await deleteOwn("inside");
    await world.pass(5 * dayMs);
    await world.collect();
    expect(await world.stored()).not.toContain(gone.config.digest);
    // Nothing that cannot be looked at keeps the collector busy.
    expect((await world.collect()).isEmpty).toBe(true);
    expect((await restore("/user", uuid)).status).toBe(200);
    await expectWhole("admin/inside", "kept", kept);
  });
});

test("who restores and what removes it are never both right", async () => {
  const outcomes = new Set<string>();
  for (let round = 0; round < 8; round++) {
    const repository = `admin/race${round}`;
    const image = await client.pushImage(repository, "v1");
    const { uuid } = await deleteOwn(`race${round}`);
    await world.pass(windowMs + minuteMs);
    // Neither is always the first to be asked.
    const early = round % 2 === 0 ? restore("/user", uuid) : undefined;
    const removing = world.collect();
    const answer = await (early ?? restore("/user", uuid));
    await removing;
    await world.pass(minuteMs);
    await world.collect();
    outcomes.add(String(answer.status));
    if (answer.status === 200) await expectWhole(repository, "v1", image);
    else {
      expect(answer.status).toBe(404);
      expect(await world.stored()).not.toContain(image.config.digest);
    }
    expect(await deletedOf("/user")).toEqual([]);
  }
  console.log(`restores against removals: ${[...outcomes].join(", ")}`);
});

test("of two who restore it at once one does", async () => {
  const image = await client.pushImage("admin/twice", "v1");
  const { uuid } = await deleteOwn("twice");
  const answers = await Promise.all([restore("/user", uuid), restore("/user", uuid, { name: "thrice" })]);
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 404]);
  await expectWhole(`admin/${answers.find(({ status }) => status === 200)?.body.name}`, "v1", image);
});
