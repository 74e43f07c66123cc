/** Passes over a store: begun, left, killed and gone on with, by one at a time, beside collection and pushes. */
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { putBlob } from "../../src/domain/blob/queries.ts";
import { collect } from "../../src/domain/gc/round.ts";
import { Tally } from "../../src/domain/gc/tally.ts";
import { listCopiesOf, takeOutOfService } from "../../src/domain/scrub/copies.ts";
import { examineCopy } from "../../src/domain/scrub/examine.ts";
import { type Due, isLocationDue, noteLocations, type Pass, takePass } from "../../src/domain/scrub/lease.ts";
import { runPass } from "../../src/domain/scrub/pass.ts";
import { adoptBlob } from "../../src/domain/upload/end.ts";
import type { Digest } from "../../src/oci/digest.ts";
import { dayMs, passTime } from "../gc/world.ts";
import { startProcess } from "../support/process.ts";
import { digestOf } from "../support/registry-client.ts";
import { filesIn, flip, patienceMs, startDiskWorld, until, watching } from "./world.ts";

setDefaultTimeout(2 * patienceMs);
const repository = "admin/passes";
const weekMs = 7 * dayMs;
const near: Due = { intervalMs: weekMs, isFar: false };
const far: Due = { intervalMs: weekMs, isFar: true };
let world: Awaited<ReturnType<typeof startDiskWorld>>;
const digests: string[] = [];
const app = () => world.api.app;

beforeAll(async () => {
  world = await startDiskWorld(["disk"]);
  for (let index = 0; index < 12; index++) digests.push(await push(2000 + index));
});
afterAll(() => world.stop());
beforeEach(async () => {
  await noteLocations(app().db, ["disk"]);
  await setPass({ started: null, ended: null, lease: 0 });
});

async function push(sizeBytes: number): Promise<string> {
  const content = crypto.getRandomValues(new Uint8Array(sizeBytes));
  const response = await world.api.admin.pushBlob(repository, content);
  if (response.status !== 201) throw new Error(`push: ${response.status}`);
  return digestOf(content);
}

/** Puts the row of the pass where a test wants it; times in ms before now. */
async function setPass(times: { started: number | null; ended: number | null; lease?: number; created?: number }) {
  const nowMs = Date.now();
  const at = (agoMs: number | null) => (agoMs === null ? null : nowMs - agoMs);
  await app().db.tx(async (tx) => {
    await tx.sql`/* test.pass */
      update scrub_pass set started_ms = ${at(times.started)}, ended_ms = ${at(times.ended)}, resume_ms = 0,
        lease_until_ms = ${times.lease ?? 0}, created_ms = ${nowMs - (times.created ?? 0)}`;
  });
}

async function take(due: Due | undefined): Promise<Pass> {
  const pass = await takePass(app().db, "disk", due);
  if (!pass) throw new Error("no pass was to be had");
  return pass;
}

test("the first pass waits for a day, the next for a week from its beginning", async () => {
  const isDue = (due: Due) => isLocationDue(app().db, "disk", due);
  expect(await isDue(near)).toBe(false);
  expect(await takePass(app().db, "disk", near)).toBeUndefined();
  await setPass({ started: null, ended: null, created: dayMs + 1000 });
  expect(await isDue(near)).toBe(true);
  // Whoever is far away leaves it to those who are near, for a while.
  expect(await isDue(far)).toBe(false);
  await setPass({ started: weekMs - 60_000, ended: dayMs });
  expect(await isDue(near)).toBe(false);
  await setPass({ started: weekMs + 1000, ended: dayMs });
  expect(await isDue(near)).toBe(true);
  expect(await isDue(far)).toBe(false);
  await setPass({ started: weekMs + dayMs + 1000, ended: dayMs });
  expect(await isDue(far)).toBe(true);
});

test("of several that want a pass, one gets it", async () => {
  await setPass({ started: weekMs + 1000, ended: dayMs });
  const taken = await Promise.all(Array.from({ length: 8 }, () => takePass(app().db, "disk", near)));
  expect(taken.filter((pass) => pass !== undefined)).toHaveLength(1);
});

test("a pass that was stopped goes on where it was, and leaves what came later to the next", async () => {
  await setPass({ started: weekMs + 1000, ended: dayMs });
  const stop = new AbortController();
  let seen = 0;
  const first = watching({ signal: stop.signal });
  const stopping = {
    ...first,
    report: (event: Parameters<typeof first.report>[0]) => {
      first.report(event);
      if (event.kind === "read" && ++seen === 5) stop.abort(new Error("enough"));
    },
  };
  const left = await runPass(app(), await take(near), stopping);
  expect(left.end).toBe("stopped");
  expect(left.counts.blobs).toBeGreaterThan(0);
  const after = await push(4000);

  const second = watching();
  const goesOn = await take(near);
  expect(goesOn.afterId).toBeGreaterThan(0);
  expect(goesOn.counts.blobs).toBe(left.counts.blobs);
  const done = await runPass(app(), goesOn, second);
  expect(done).toMatchObject({ end: "done", counts: { bad: 0, unreadable: 0 } });
  // Each once, but the one that was being read when it was stopped.
  const sizes = (events: typeof second.events) =>
    events.flatMap((each) => (each.kind === "read" ? [each.sizeBytes] : []));
  const all = digests.map((_, index) => 2000 + index);
  expect(
    [...new Set([...sizes(first.events), ...sizes(second.events)])].filter((size) => all.includes(size)).sort(),
  ).toEqual(all);
  expect(sizes(second.events).length).toBeLessThanOrEqual(all.length - left.counts.blobs);
  expect(sizes(second.events)).not.toContain(4000);
  expect(await takePass(app().db, "disk", near)).toBeUndefined();

  const next = watching();
  await setPass({ started: weekMs + 1000, ended: dayMs });
  await runPass(app(), await take(near), next);
  expect(sizes(next.events)).toContain(4000);
  expect(await world.head(repository, after)).toBe(200);
});

test("a scrub that is killed loses its pass when its lease is over, and what it had found stays found", async () => {
  const bad = digests[1] ?? "";
  await flip(world.stores.disk, bad);
  const binary = process.env.TEST_BERTH_BINARY;
  const [command = "", ...script] = binary ? [binary] : [process.execPath, "src/main.ts"];
  const child = startProcess({
    command,
    args: [...script, "scrub", "--bytes-per-second", "20000", "--data", world.api.berth.dataDir],
    env: { ...world.api.berth.environment },
    name: "scrub",
  });
  // Each object costs 16 KiB of the budget at least: there are ten seconds left when the second one is told.
  await world.headBecomes(repository, bad, 404);
  await until("the progress stands in the row", async () => (await world.status()).locations[0].progress > 0);
  await child.kill();
  expect((await world.status()).locations[0].state).toBe("running");
  expect(await takePass(app().db, "disk", near)).toBeUndefined();
  await app().db.tx(async (tx) => {
    await tx.sql`/* test.lease_over */ update scrub_pass set lease_until_ms = 1`;
  });
  const pass = await take(near);
  expect(pass.afterId).toBeGreaterThan(0);
  const options = watching();
  expect(await runPass(app(), pass, options)).toMatchObject({ end: "done", counts: { bad: 1 } });
  expect(options.events.filter((event) => event.kind === "bad")).toEqual([]);
  expect((await world.logged("blob_copy_bad")).filter((each) => each.digest === bad)).toHaveLength(1);
  await flip(world.stores.disk, bad);
  expect((await world.scrub("--blob", bad)).stdout).toContain("repaired");
  await world.headBecomes(repository, bad, 200);
});

test("who begins a pass by hand takes it from whoever has it, and that one stops", async () => {
  await setPass({ started: weekMs + 1000, ended: dayMs });
  const pass = await take(near);
  const own = await take(undefined);
  expect(own.afterId).toBe(0);
  const [loser, winner] = [watching(), watching()];
  expect((await runPass(app(), pass, loser)).end).toBe("lost");
  expect((await runPass(app(), own, winner)).end).toBe("done");
});

test("a store whose reads fail is away, and the pass goes on where it was", async () => {
  await setPass({ started: weekMs + 1000, ended: dayMs });
  const { storage } = app();
  const broken: typeof storage = {
    ...storage,
    driver: (location) => {
      const driver = storage.driver(location);
      const failing = Object.create(driver) as typeof driver;
      failing.find = async () => Promise.reject(new Error("the cable was cut"));
      failing.check = async () => Promise.reject(new Error("the cable was cut"));
      return failing;
    },
  };
  const pass = await take(near);
  const away = await runPass({ ...app(), storage: broken }, pass, watching());
  expect(away).toMatchObject({ end: "away", counts: { blobs: 0, bad: 0, unreadable: 0 } });
  expect(await takePass(app().db, "disk", near)).toBeUndefined();
  expect((await world.status()).locations[0].state).toBe("waiting");
  await app().db.tx(async (tx) => {
    await tx.sql`/* test.a_minute_later */ update scrub_pass set resume_ms = resume_ms - 60001`;
  });
  expect((await runPass(app(), await take(near), watching())).end).toBe("done");
});

test("a blob that is being collected is nobody's business, and one that was bad leaves no bytes behind", async () => {
  const gone = await push(5001);
  const [copy] = await listCopiesOf(app().db, gone as Digest);
  if (!copy) throw new Error("the blob has no copy");
  await app().db.tx(async (tx) => {
    await tx.sql`/* test.doom */ update blob set state = 'deleting', lease_until_ms = 1 where digest = ${gone}`;
  });
  await world.stores.disk?.remove(gone);
  expect(await examineCopy(app(), copy, watching())).toBe("gone");
  expect(await world.places(gone)).toEqual({ good: ["disk"], bad: [] });

  const bad = await push(5002);
  await flip(world.stores.disk, bad);
  expect((await world.scrub("--blob", bad)).stdout).toContain("out of service");
  for (const digest of [gone, bad]) {
    await app().db.tx(async (tx) => {
      await tx.sql`/* test.unlink */
        delete from repository_blob where blob_id = (select id from blob where digest = ${digest})`;
    });
  }
  await passTime(app().db, 2 * dayMs);
  await app().db.tx(async (tx) => {
    await tx.sql`/* test.due */ update blob set lease_until_ms = 1 where digest = ${bad}`;
  });
  await collect(app(), new Tally());
  const [left] = await app().db.sql<{ n: number }>`/* test.left */
    select count(*) as n from blob where digest = ${gone} or digest = ${bad}`;
  expect(Number(left?.n)).toBe(0);
  expect(filesIn(world.folders.disk?.path ?? "")).not.toContain(bad.slice(7));
  expect((await world.status()).bad_copies).toEqual([]);
});

test("a push that relied on bytes that were just found to be bad is told to push again", async () => {
  const digest = (await push(5003)) as Digest;
  const [copy] = await listCopiesOf(app().db, digest);
  if (!copy) throw new Error("the blob has no copy");
  // Between its look at the store and its row.
  expect(await takeOutOfService(app(), copy, { kind: "digest", found: "" })).toBe(true);
  expect(await takeOutOfService(app(), copy, { kind: "digest", found: "" })).toBe(false);
  const row = { digest, sizeBytes: 5003, location: "disk", nowMs: Date.now() };
  const relied = app().db.tx((tx) => putBlob(tx, { ...row, wasStored: true }));
  await expect(relied).rejects.toMatchObject({ code: "unavailable" });
  expect(await world.places(digest)).toEqual({ good: [], bad: ["disk"] });
  await app().db.tx((tx) => putBlob(tx, { ...row, wasStored: false }));
  expect(await world.places(digest)).toEqual({ good: ["disk"], bad: [] });
});

test("what an upload left behind is no reason to put a bad copy back", async () => {
  const digest = (await push(5005)) as Digest;
  await flip(world.stores.disk, digest);
  expect((await world.scrub("--blob", digest)).stdout).toContain("out of service");
  await adoptBlob(app(), "disk", digest);
  expect(await world.places(digest)).toEqual({ good: [], bad: ["disk"] });
  await flip(world.stores.disk, digest);
  expect((await world.scrub("--blob", digest)).stdout).toContain("repaired");
});

test("a copy that turns out to be right after all is put back at once", async () => {
  const digest = (await push(5004)) as Digest;
  const good = (await world.stores.disk?.read(digest)) ?? new Uint8Array();
  await flip(world.stores.disk, digest);
  const [copy] = await listCopiesOf(app().db, digest);
  if (!copy) throw new Error("the blob has no copy");
  const options = watching();
  const racing = {
    ...options,
    report: (event: Parameters<typeof options.report>[0]) => {
      options.report(event);
      // A push that had begun before wrote the bytes between the second look and the mark.
      if (event.kind === "bad") void world.stores.disk?.write(digest, good);
    },
  };
  expect(await examineCopy(app(), copy, racing)).toBe("repaired");
  expect(await world.places(digest)).toEqual({ good: ["disk"], bad: [] });
  await world.headBecomes(repository, digest, 200);
});

test("a registry scrubs by itself, tells its metrics, and has no worker while nothing is due", async () => {
  const own = await startDiskWorld(["disk"], { FEATURE_SCRUB: true, SCRUB_PASS_INTERVAL_SECONDS: 2 });
  try {
    const image = await own.api.admin.pushImage("admin/own", "v1", { layers: 2, layerBytes: 50_000 });
    const [good, bad] = image.layers.map(({ digest }) => digest);
    await flip(own.stores.disk, bad ?? "");
    await own.headBecomes("admin/own", bad ?? "", 404);
    expect(await own.pull("admin/own", good ?? "")).toBe(200);
    const is = (line: string, value: number) =>
      until(`${line} ${value}`, async () => ((await own.metric(line)) ?? -1) >= value);
    await is('berth_scrub_bad_total{location="disk",kind="digest"}', 1);
    await is('berth_scrub_bytes_total{location="disk"}', 100_000);
    await is('berth_scrub_bad_copies{location="disk",kind="digest"}', 1);
    await is('berth_scrub_age_seconds{location="disk"}', 0);
    expect(await own.metric('berth_scrub_age_seconds{location="disk"}')).toBeLessThan(patienceMs / 1000);
  } finally {
    await own.stop();
  }
});
