/** What superusers and `berth gc --status` are told of garbage collection, and that telling costs no more in a large registry. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { findReclaimable } from "../../src/domain/gc/reclaimable.ts";
import { isAnythingDue } from "../../src/domain/gc/round.ts";
import { findGcStatus } from "../../src/domain/gc/status.ts";
import { INSTANCE } from "../../src/domain/gc/totals.ts";
import { sourcesOf } from "../../src/domain/gc/waiting.ts";
import { runRound } from "../../src/workers/gc-round.ts";
import type { ApiClient } from "../api/harness.ts";
import type { RegistryClient } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld, windowMs } from "./world.ts";

setDefaultTimeout(60_000);

const minuteMs = 60_000;

let world: GcWorld;
let client: RegistryClient;
let su: ApiClient;
beforeAll(async () => {
  world = await startGcWorld();
  client = world.api.admin;
  su = await world.api.as("admin");
}, 120_000);
afterAll(() => world?.stop());

async function deleteTag(repository: string, tag: string): Promise<void> {
  const options = { method: "DELETE", scope: `repository:${repository}:delete` };
  expect((await client.request(`/v2/${repository}/manifests/${tag}`, options)).status).toBe(202);
}

/** The server's own workers are off, so that the test says when; a round here collects as theirs would. */
async function round() {
  const config = {
    ...world.api.app.config,
    FEATURE_GARBAGE_COLLECTION: true,
    FEATURE_REPOSITORY_GARBAGE_COLLECTION: true,
    FEATURE_NAMESPACE_GARBAGE_COLLECTION: true,
  };
  return runRound({ ...world.api.app, config }, new AbortController().signal);
}

/** Of each queue: what Quay's three gauges say. The server looks anew after ten seconds, so a test scrapes once. */
async function queueSeries(): Promise<Record<string, number[]>> {
  const text = await (await fetch(`${world.api.berth.metricsUrl}/metrics`)).text();
  // Counted where it happens: the deletions were the server's.
  expect(text).toMatch(/^quay_queue_item_puts_total\{[^}]*queue_name="repositorygc"[^}]*\} 1$/m);
  const found: Record<string, number[]> = {};
  for (const name of ["items_available", "items_available_unlocked", "items_locked"]) {
    for (const [, queue = "", value] of text.matchAll(
      new RegExp(`^quay_queue_${name}\\{[^}]*queue_name="(\\w+)"[^}]*\\} (\\d+)$`, "gm"),
    )) {
      found[queue] = [...(found[queue] ?? []), Number(value)];
    }
  }
  return found;
}

async function status() {
  const answer = await su.get("/superuser/gc");
  expect([answer.status, answer.text]).toEqual([200, answer.text]);
  const { waiting, reclaimable, freed, ...rest } = answer.body;
  return {
    ...rest,
    freed,
    waits: Object.fromEntries(
      waiting.map((each: { kind: string; waiting: number; due: number }) => [each.kind, [each.waiting, each.due]]),
    ),
    reclaimable: reclaimable.buckets.map(({ bytes }: { bytes: number }) => bytes),
    isExact: reclaimable.exact,
  };
}

describe("GET /superuser/gc", () => {
  test("nothing has happened", async () => {
    expect(await status()).toMatchObject({
      reclaimable: [0, 0, 0, 0],
      isExact: true,
      rounds: [],
      freed: { since_ms: null, total: { bytes: 0, blobs: 0, rows: 0 } },
      enabled: { garbage_collection: false, repositories: false, namespaces: false, auto_prune: true },
    });
  });

  test("a deleted tag waits for its window, is due, and then its bytes are counted as freed", async () => {
    const kept = await client.pushImage("admin/a", "kept");
    const gone = await client.pushImage("admin/a", "gone");
    const bytes = [gone.config, ...gone.layers].reduce((sum, { size }) => sum + size, 0);
    await deleteTag("admin/a", "gone");
    expect(await status()).toMatchObject({ reclaimable: [0, 0, 0, bytes], waits: { ended_tags: [1, 0] } });
    await world.pass(windowMs - 3 * dayMs);
    expect(await status()).toMatchObject({ reclaimable: [0, 0, bytes, 0] });
    await world.pass(2 * dayMs + minuteMs);
    expect(await status()).toMatchObject({ reclaimable: [0, bytes, 0, 0] });
    await world.pass(dayMs);
    const due = await status();
    expect(due).toMatchObject({ reclaimable: [bytes, 0, 0, 0], waits: { ended_tags: [1, 1] } });
    const tally = await round();
    expect({ bytes: tally.bytes, failures: tally.failures }).toEqual({ bytes, failures: 0 });
    const after = await status();
    expect(after).toMatchObject({ reclaimable: [0, 0, 0, 0], waits: { ended_tags: [0, 0], blobs: [0, 0] } });
    const { freed, rounds } = after;
    expect(freed.since_ms).toBe(Math.floor(after.at_ms / dayMs) * dayMs);
    expect(freed.total).toMatchObject({ bytes, blobs: 2, rows_by_table: { tag: 1, manifest: 1, blob: 2 } });
    expect([freed.today, freed.last_7_days]).toEqual([freed.total, freed.total]);
    expect(rounds).toMatchObject([{ instance: INSTANCE, state: "ended", blobs: 2, bytes }]);
    expect(rounds[0].duration_ms).toBeGreaterThanOrEqual(0);
    expect((await client.pullManifest("admin/a", kept.descriptor.digest)).status).toBe(200);
    // One that finds nothing is no round to tell of.
    await round();
    expect((await status()).rounds).toEqual(rounds);
  });

  test("a deleted repository and a deleted organization wait", async () => {
    expect((await su.post("/organization/", { name: "going", email: "going@example.com" })).status).toBe(201);
    const own = await client.pushImage("admin/b", "v1");
    const theirs = await client.pushImage("going/c", "v1");
    const bytes = [own, theirs].flatMap(({ config, layers }) => [config, ...layers]);
    expect((await su.delete("/repository/admin/b")).status).toBe(204);
    expect((await su.delete("/organization/going")).status).toBe(204);
    expect((await status()).waits).toMatchObject({ repositories: [1, 0], namespaces: [1, 0] });
    // Nobody waits for a worker before the window is over.
    expect(await queueSeries()).toEqual({
      namespacegc: [0, 0, 0],
      repositorygc: [0, 0, 0],
      exportactionlogs: [0, 0, 0],
      notification: [0, 0, 0],
      imagestoragereplication: [0, 0, 0],
    });
    const distinct = [...new Map(bytes.map(({ digest, size }) => [digest, size])).values()];
    const sum = distinct.reduce((total, size) => total + size, 0);
    expect((await status()).reclaimable.reduce((total: number, each: number) => total + each, 0)).toBe(sum);
    await world.pass(windowMs + dayMs);
    expect((await status()).waits).toMatchObject({ repositories: [1, 1], namespaces: [1, 1] });
    expect((await status()).reclaimable).toEqual([sum, 0, 0, 0]);
    const tally = await round();
    expect(tally).toMatchObject({ bytes: sum, repositories: 2, namespaces: 1 });
    expect((await status()).waits).toMatchObject({ repositories: [0, 0], namespaces: [0, 0] });
  });

  test("a removal that fails is told of, tried again however often it failed, and holds up no other", async () => {
    const { db } = world.api.app;
    await client.pushImage("admin/stuck", "v1");
    const rows = await db.sql<{ id: number }>`/* test.stuck */ select id from repository where name = 'stuck'`;
    // What a table that the removal does not know would do.
    await db.sql`/* test.hold */ create table test_hold (repository_id bigint references repository (id))`;
    await db.sql`/* test.hold */ insert into test_hold (repository_id) values (${Number(rows[0]?.id)})`;
    expect((await su.delete("/repository/admin/stuck")).status).toBe(204);
    for (let n = 0; n < 7; n++) {
      await client.pushImage("admin/other", "v1");
      expect((await su.delete("/repository/admin/other")).status).toBe(204);
      await world.pass(windowMs + dayMs);
      expect(await round()).toMatchObject({ repositories: 1, failures: 1 });
      expect((await status()).waits.repositories).toEqual([1, 0]);
      const view = await su.get("/superuser/gc");
      const ofRepositories = view.body.waiting.find((each: { kind: string }) => each.kind === "repositories");
      expect(ofRepositories.failing).toBe(1);
      // It waits for minutes and not for ever.
      expect(ofRepositories.first_due_ms - view.body.at_ms).toBeWithin(4 * minuteMs, 41 * minuteMs);
    }
    await db.sql`/* test.let_go */ drop table test_hold`;
    await world.pass(dayMs);
    expect(await round()).toMatchObject({ repositories: 1, failures: 0 });
    expect((await status()).waits.repositories).toEqual([0, 0]);
  });

  test("an upload that nobody ends is counted, and rounds of two instances stand side by side", async () => {
    const begun = await client.request("/v2/admin/a/blobs/uploads/", {
      method: "POST",
      scope: "repository:admin/a:pull,push",
    });
    expect(begun.status).toBe(202);
    expect((await status()).waits.uploads).toEqual([1, 0]);
    const { db } = world.api.app;
    await db.sql`/* test.rounds */
      insert into gc_round (instance, started_ms, noted_ms, ended, row_count, blob_count, size_bytes)
      values ('other:1', ${Date.now() - 5000}, ${Date.now()}, false, 7, 3, 30),
             ('dead:1', ${Date.now() - 500_000}, ${Date.now() - 400_000}, false, 1, 1, 10)`;
    const { rounds } = await status();
    expect(rounds).toMatchObject([
      { instance: "other:1", state: "running", rows: 7 },
      { instance: INSTANCE, state: "ended" },
      { instance: "dead:1", state: "lost" },
    ]);
  });

  test("only superusers are told", async () => {
    await world.api.user("somebody");
    const somebody = await world.api.as("somebody");
    for (const path of ["/superuser/gc", "/superuser/gc/explain?reference=admin/a"]) {
      expect((await somebody.get(path)).status).toBe(403);
    }
  });
});

describe("GET /superuser/gc/explain", () => {
  test("tells what keeps a tag, a manifest and a blob", async () => {
    const image = await client.pushImage("admin/e", "v1");
    const layer = image.layers[0]?.digest ?? "";
    const ask = (reference: string) => su.get(`/superuser/gc/explain?${new URLSearchParams({ reference })}`);
    expect((await ask("admin/e:v1")).body).toMatchObject({
      reference: "admin/e:v1",
      kind: "tag",
      state: "kept",
      goes_ms: null,
      reasons: [{ depth: 0, kind: "tag", name: "v1", until_ms: null }],
      content: { kind: "manifest", reference: image.descriptor.digest },
    });
    expect((await ask(layer)).body.reasons).toMatchObject([
      { depth: 0, kind: "repository", name: "admin/e" },
      { depth: 1, kind: "manifest", name: image.descriptor.digest },
      { depth: 2, kind: "tag", name: "v1" },
      { depth: 1, kind: "lease" },
      { depth: 0, kind: "reservation" },
    ]);
    await deleteTag("admin/e", "v1");
    const { body } = await ask(layer);
    expect(body).toMatchObject({ kind: "blob", state: "waits", size_bytes: 1024 });
    expect(body.goes_ms).toBeGreaterThan(Date.now() + windowMs - minuteMs);
    for (const reference of ["admin/none", "admin/e:none", `sha256:${"0".repeat(64)}`]) {
      expect((await ask(reference)).status).toBe(404);
    }
    for (const reference of ["", "sha256:beef", "admin/E"]) expect((await ask(reference)).status).toBe(400);
  });
});

test("a worker starts only for what the config lets it collect", async () => {
  const { app } = world.api;
  const off = { ...app.config, FEATURE_AUTO_PRUNE: false };
  const isDue = (config: Partial<typeof off>) => isAnythingDue({ ...app, config: { ...off, ...config } });
  await world.collect();
  const features = [
    "FEATURE_GARBAGE_COLLECTION",
    "FEATURE_REPOSITORY_GARBAGE_COLLECTION",
    "FEATURE_NAMESPACE_GARBAGE_COLLECTION",
    "FEATURE_AUTO_PRUNE",
  ] as const;
  const dueFor = async () => {
    const found: string[] = [];
    for (const feature of features) if (await isDue({ [feature]: true })) found.push(feature);
    return found;
  };
  expect(await dueFor()).toEqual([]);
  await client.pushImage("admin/due", "v1");
  await deleteTag("admin/due", "v1");
  await world.pass(windowMs + dayMs);
  expect(await dueFor()).toEqual(["FEATURE_GARBAGE_COLLECTION"]);
  await world.collect();
  await client.pushImage("admin/due", "v1");
  expect((await su.delete("/repository/admin/due")).status).toBe(204);
  await world.pass(windowMs + dayMs);
  expect(await dueFor()).toContain("FEATURE_REPOSITORY_GARBAGE_COLLECTION");
  expect(await dueFor()).not.toContain("FEATURE_NAMESPACE_GARBAGE_COLLECTION");
  expect(await isDue({})).toBe(false);
  await world.collect();
});

describe("the cost of looking", () => {
  test("is bounded: what is beyond the bound is told", async () => {
    const { db } = world.api.app;
    const { buckets, isExact } = await findReclaimable(db, Date.now(), 3);
    expect(isExact).toBe(false);
    expect(buckets.map(({ blobs }) => blobs)).toEqual([0, 0, 0, 0]);
    expect((await findGcStatus(world.api.app)).reclaimable.isExact).toBe(true);
  });

  test("does not grow with what does not wait: counts go by indexes that hold no more than that", async () => {
    const { db } = world.api.app;
    if (db.engine !== "sqlite") return;
    for (const { kind, waiting, due, first } of sourcesOf(db)) {
      const texts = [
        db.sql`select 1 as one from ${waiting} limit 9`,
        db.sql`select 1 as one from ${due} limit 9`,
        first,
      ];
      for (const query of texts) {
        const plan = await db.sql<{ detail: string }>`explain query plan ${query}`;
        for (const { detail } of plan) {
          const isThroughTable = /^SCAN \w+( |$)/.test(detail) && !/USING (COVERING )?INDEX/.test(detail);
          const isDerived = /^SCAN (g|\(subquery)/.test(detail);
          const sorts = detail.includes("TEMP B-TREE");
          expect({ kind, detail, isBad: (isThroughTable && !isDerived) || sorts }).toEqual({
            kind,
            detail,
            isBad: false,
          });
        }
      }
    }
  });
});
