/**
 * Collection against pushes of the same digests: what was acknowledged is there, and nothing else is kept. Leases are made
 * short by ageing them in the database, with room for what a push really takes.
 */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { collect } from "../../src/domain/gc/round.ts";
import { Tally } from "../../src/domain/gc/tally.ts";
import { type GcWorld, startGcWorld } from "./world.ts";

setDefaultTimeout(180_000);

/** A lease of this age is over here. Pushes of this test take a hundredth of it. */
const LEASE_MS = 3000;
const RESERVED_MS = 60_000;
const RUN_SECONDS = Number(process.env.TEST_GC_SECONDS ?? 12);

let world: GcWorld;
beforeAll(async () => {
  world = await startGcWorld({ PUSH_TEMP_TAG_EXPIRATION_SEC: 1, TAG_EXPIRATION_OPTIONS: ["0s", "2w"] });
}, 120_000);
afterAll(() => world?.stop());

test("a push waits for the deletion of its digest, and stores it anew", async () => {
  const { admin, app } = world.api;
  const content = new TextEncoder().encode("the same bytes");
  await admin.pushBlob("admin/first", content);
  await app.db.sql`/* test.drop */ delete from repository_blob`;
  await app.db.sql`/* test.mark */ update blob set state = 'deleting', lease_until_ms = ${app.db.dialect.nowMs} + 1000`;
  let isOver = false;
  const pushed = admin.pushBlob("admin/second", content).finally(() => {
    isOver = true;
  });
  while (!isOver) {
    await collect(app, new Tally());
    // On SQLite nothing of this waits for the world outside.
    await Bun.sleep(10);
  }
  const response = await pushed;
  expect(response.status).toBe(201);
  expect(await world.stored()).toEqual(await world.known());
  const pulled = await admin.pullBlob("admin/second", digestOf(content));
  expect([pulled.status, await pulled.text()]).toEqual([200, "the same bytes"]);
});

test("a deletion that nobody ends is told to the client, who may try again", async () => {
  const { admin, app } = world.api;
  const content = new TextEncoder().encode("other bytes");
  await admin.pushBlob("admin/first", content);
  await app.db.sql`/* test.mark */
    update blob set state = 'deleting', lease_until_ms = ${app.db.dialect.nowMs} + 60000 where digest = ${digestOf(content)}`;
  const response = await admin.pushBlob("admin/second", content);
  expect(response.status).toBe(503);
  expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  await app.db.sql`/* test.unmark */ update blob set state = 'live' where digest = ${digestOf(content)}`;
});

test(`for ${RUN_SECONDS} s images come and go that share their layers, with two collectors: none that is tagged loses a byte`, async () => {
  const { admin, app } = world.api;
  await app.db.sql`/* test.window */ update account set tag_expiration_s = 0`;
  const layers = Array.from({ length: 100 }, (_, n) => new TextEncoder().encode(`layer ${n}`));
  const endMs = performance.now() + RUN_SECONDS * 1000;
  const figures = { pushed: 0, deleted: 0, refused: 0, blobs: 0 };

  const pick = () => layers[Math.floor(Math.random() * layers.length)] ?? new Uint8Array();
  const pusher = async (worker: number): Promise<void> => {
    const repository = `admin/race-${worker % 2}`;
    const tag = `t${worker}`;
    for (let n = 0; performance.now() < endMs; n++) {
      const own = [pick(), pick()];
      try {
        const image = await admin.pushImage(repository, tag, { layers: 0 });
        const named = { ...JSON.parse(new TextDecoder().decode(image.manifest)), layers: [] as unknown[] };
        for (const content of own) {
          const response = await admin.pushBlob(repository, content, {
            shape: n % 2 === 0 ? "post-put" : "single-post",
          });
          if (response.status === 503) throw new Refused();
          expect(response.status).toBe(201);
          named.layers.push({
            mediaType: "application/vnd.oci.image.layer.v1.tar",
            size: content.length,
            digest: digestOf(content),
          });
        }
        const put = await admin.pushManifest(repository, tag, named);
        // A layer may have been let go of since: the registry says so, and the client pushes it again.
        if (put.status === 404 || put.status === 400) throw new Refused();
        expect(put.status).toBe(201);
        figures.pushed++;
      } catch (error) {
        if (!(error instanceof Refused) && !String(error).includes("503")) throw error;
        figures.refused++;
        continue;
      }
      for (const content of own) {
        const pulled = await admin.pullBlob(repository, digestOf(content));
        expect([pulled.status, digestOf(await pulled.bytes())]).toEqual([200, digestOf(content)]);
      }
      if (n % 5 === 0) continue;
      const deleted = await admin.request(`/v2/${repository}/manifests/${tag}`, {
        method: "DELETE",
        scope: `repository:${repository}:delete`,
      });
      expect(deleted.status).toBe(202);
      figures.deleted++;
      // Between two pushes of one layer there is most often time to collect it, and sometimes just not.
      await Bun.sleep(Math.random() * 200);
    }
  };
  const collector = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const tally = new Tally();
      await age();
      await collect(app, tally);
      figures.blobs += tally.blobs;
      await Bun.sleep(Math.random() * 50);
    }
  };
  await Promise.all([...[0, 1, 2, 3].map(pusher), collector(), collector()]);
  expect(figures.pushed).toBeGreaterThan(10);
  expect(figures.blobs).toBeGreaterThan(5);

  // What is left at the end is what tags hold, in the store as in the rows.
  await app.db.sql`/* test.over */ update repository_blob set lease_until_ms = 1 where lease_until_ms > 1`;
  await app.db.sql`/* test.over */ update blob set lease_until_ms = 1 where lease_until_ms > 1`;
  await app.db.sql`/* test.over */ update manifest set lease_until_ms = 1 where lease_until_ms > 1`;
  await collect(app, new Tally());
  const held = await app.db.sql<{ digest: string }>`/* test.held */
    select distinct b.digest from tag t join manifest_blob n on n.manifest_id = t.manifest_id join blob b on b.id = n.blob_id
    where t.end_ms is null`;
  expect(await world.stored()).toEqual(held.map((row) => row.digest).sort());
  console.log(`races: ${JSON.stringify(figures)}`);
});

class Refused extends Error {}

/** Reservations and first leases that are three seconds old are over; younger ones are not touched. */
async function age(): Promise<void> {
  const { db } = world.api.app;
  const { nowMs } = db.dialect;
  await db.sql`/* test.age */
    update blob set lease_until_ms = 1
    where state = 'live' and lease_until_ms > 1 and lease_until_ms < ${nowMs} + ${RESERVED_MS - LEASE_MS}`;
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}
