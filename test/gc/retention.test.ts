/** Retention by the last pull: what keeps a tag, and when it is looked at again. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Tx, TxOptions } from "../../src/db/db.ts";
import { finishLook, takeDueRepository } from "../../src/domain/autoprune/due.ts";
import { mediaTypes } from "../support/registry-client.ts";
import { RetentionWorld } from "./retention-world.ts";
import { dayMs } from "./world.ts";

setDefaultTimeout(120_000);

let world: RetentionWorld;
beforeAll(async () => {
  world = await RetentionWorld.start();
}, 120_000);
afterAll(() => world?.gc.stop());

test("a pull by tag, by digest, or of an image of its index keeps a tag; one that nobody pulls goes", async () => {
  const name = await world.organization();
  const path = `${name}/app`;
  const [, byDigest] = [await world.client.pushImage(path, "by-tag"), await world.client.pushImage(path, "by-digest")];
  await world.client.pushImage(path, "never");
  const child = await world.client.pushImage(path, "child");
  const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [child.descriptor] };
  expect((await world.client.pushManifest(path, "by-child", index, mediaTypes.index)).status).toBe(201);
  await world.deleteTag(path, "child");
  await world.policy(`/organization/${name}`, { method: "last_pull_date", value: "30d" });
  await world.gc.pass(20 * dayMs);
  await world.pull(path, "by-tag", byDigest.descriptor.digest, child.descriptor.digest);
  await world.gc.pass(9 * dayMs);
  await world.prune();
  expect(await world.living(name)).toHaveLength(4);
  await world.gc.pass(2 * dayMs);
  await world.prune();
  expect(await world.living(name)).toEqual(["app:by-child", "app:by-digest", "app:by-tag"]);
  await world.gc.pass(20 * dayMs);
  await world.prune();
  expect(await world.living(name)).toEqual([]);
  const { body } = await world.su.get(`/organization/${name}/logs`);
  const pruned = body.logs.filter((entry: { kind: string }) => entry.kind === "autoprune_tag_delete");
  expect(pruned.map(({ metadata }: { metadata: Record<string, unknown> }) => metadata.method)).toEqual(
    Array(4).fill("last_pull_date"),
  );
});

test("who only asks whether an image is current keeps its tag, and that is no pull", async () => {
  const name = await world.organization();
  const path = `${name}/app`;
  const tags = ["asked", "unchanged", "never"];
  const pushed = new Map<string, string>();
  for (const tag of tags) pushed.set(tag, (await world.client.pushImage(path, tag)).descriptor.digest);
  await world.policy(`/organization/${name}`, { method: "last_pull_date", value: "30d" });
  await world.gc.pass(29 * dayMs);
  expect((await world.client.pullManifest(path, "asked", { method: "HEAD" })).status).toBe(200);
  const headers = { "if-none-match": `"${pushed.get("unchanged")}"` };
  expect((await world.client.pullManifest(path, "unchanged", { headers })).status).toBe(304);
  const asked = () => world.db.sql`/* test.asked */
    select 1 as one from manifest_pull where repository_id in (select id from repository where path = ${path})`;
  while ((await asked()).length < 2) await Bun.sleep(50);
  await world.gc.pass(2 * dayMs);
  await world.prune();
  expect(await world.living(name)).toEqual(["app:asked", "app:unchanged"]);
  const { body } = await world.su.get(`/repository/${path}/tag/asked/pull_statistics`);
  expect(body).toMatchObject({ tag_pull_count: 0, manifest_pull_count: 0, last_manifest_pull_date: null });
  await world.pull(path, "asked");
  const pulled = (await world.su.get(`/repository/${path}/tag/asked/pull_statistics`)).body;
  expect([pulled.tag_pull_count, pulled.manifest_pull_count]).toEqual([1, 1]);
});

test("a tag that moves begins anew, patterns hold, and immutable tags stay", async () => {
  const name = await world.organization();
  const path = `${name}/app`;
  for (const tag of ["v1", "v2", "nightly", "kept"]) await world.client.pushImage(path, tag);
  expect((await world.su.put(`/repository/${path}/tag/kept`, { immutable: true })).status).toBe(201);
  await world.policy(`/repository/${path}`, { method: "last_pull_date", value: "10d", tagPattern: "^(v|kept)" });
  await world.gc.pass(11 * dayMs);
  await world.client.pushImage(path, "v1");
  await world.prune();
  expect(await world.living(name)).toEqual(["app:kept", "app:nightly", "app:v1"]);
  expect((await world.su.put(`/repository/${path}/tag/kept`, { immutable: false })).status).toBe(201);
  await world.gc.pass(dayMs + 60_000);
  await world.prune();
  expect(await world.living(name)).toEqual(["app:nightly", "app:v1"]);
});

test("a pull that is written between the look and the end of a tag keeps it", async () => {
  const name = await world.organization();
  const path = `${name}/app`;
  const { descriptor } = await world.client.pushImage(path, "v1");
  await world.client.pushImage(path, "v2");
  await world.policy(`/organization/${name}`, { method: "last_pull_date", value: "10d" });
  await world.gc.pass(11 * dayMs);
  const id = await world.repositoryId(path);
  let isWritten = false;
  const late = new Proxy(world.db, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (property !== "tx") return typeof value === "function" ? value.bind(target) : value;
      return async (work: (tx: Tx) => Promise<unknown>, options?: TxOptions) => {
        // One transaction takes the repository, the next ends its tags.
        if (
          !isWritten &&
          (
            await world.db.sql`/* test.taken */ select 1 as one from prune_repository
            where repository_id = ${id} and due_ms > ${world.db.dialect.nowMs}`
          ).length > 0
        ) {
          isWritten = true;
          await world.db.sql`/* test.pull */
              insert into manifest_pull (repository_id, manifest_digest, pull_count, last_pull_ms)
              values (${id}, ${descriptor.digest}, 1, ${Date.now()})`;
        }
        return target.tx(work, options);
      };
    },
  });
  await world.prune(late);
  expect([isWritten, await world.living(name)]).toEqual([true, ["app:v1"]]);
});

test("looks again when the first tag may be due, and neither pushes nor pulls make that sooner", async () => {
  const name = await world.organization();
  const path = `${name}/app`;
  await world.client.pushImage(path, "v1");
  await world.gc.pass(5 * dayMs);
  await world.policy(`/organization/${name}`, { method: "last_pull_date", value: "30d" });
  await world.prune();
  const first = await world.appointment(path);
  const inMs = (first?.pullsDueMs ?? 0) - Date.now();
  expect(first?.dueMs).toBe(first?.pullsDueMs ?? 0);
  expect(inMs).toBeGreaterThan(25 * dayMs - 60_000);
  expect(inMs).toBeLessThan(25 * dayMs + 120_000);
  await world.client.pushImage(path, "v2");
  expect((await world.appointment(path))?.dueMs).toBeLessThan(Date.now() + 60_000);
  await world.prune();
  // Looked at for the push, and not for the pulls.
  expect(await world.appointment(path)).toEqual(first as NonNullable<typeof first>);
  await world.pull(path, "v1");
  expect(await world.appointment(path)).toEqual(first as NonNullable<typeof first>);
  await world.gc.pass(26 * dayMs);
  await world.prune();
  expect(await world.living(name)).toEqual(["app:v1", "app:v2"]);
  const second = (await world.appointment(path))?.pullsDueMs ?? 0;
  expect(Math.abs(second - Date.now() - 4 * dayMs)).toBeLessThan(dayMs / 100);
});

test("a push while a repository is looked at makes it due again", async () => {
  const name = await world.organization();
  const path = `${name}/app`;
  await world.client.pushImage(path, "v1");
  await world.policy(`/organization/${name}`, { method: "number_of_tags", value: 1 });
  await world.prune();
  await world.client.pushImage(path, "v2");
  const id = await world.repositoryId(path);
  await world.db.sql`/* test.due */ update prune_repository set due_ms = 1 where repository_id = ${id}`;
  const taken = await takeDueRepository(world.db);
  expect(taken?.id).toBe(id);
  await world.client.pushImage(path, "v3");
  if (taken) await world.db.tx((tx) => finishLook(tx, taken, undefined));
  expect(await world.appointment(path)).toBeDefined();
  await world.prune();
  expect(await world.living(name)).toEqual(["app:v3"]);
});
