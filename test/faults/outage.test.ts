/**
 * Pulls while the database is away: what was pulled before is served on from memory for DB_OUTAGE_PULL_SECONDS, everything
 * else is refused at once with 503 and Retry-After, and all of it comes back without a restart.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { BerthServer } from "../support/berth.ts";
import { fixedBytes, image, publish } from "../support/content.ts";
import { digestOf, RegistryClient } from "../support/registry-client.ts";
import { expectRefusal, until } from "./answers.ts";
import { type FaultyDatabase, startBerthOn, startFaultyDatabase } from "./start.ts";

const repository = "admin/outage";
const warm = image("warm");
const cold = image("cold");
/** Far more than the tests take, whatever the machine does. */
const outagePullSeconds = 600;

let database: FaultyDatabase;
let berth: BerthServer;
let client: RegistryClient;

beforeAll(async () => {
  database = await startFaultyDatabase();
  berth = await startBerthOn(database.uri, { DB_OUTAGE_PULL_SECONDS: outagePullSeconds });
  client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
  await publish(client, repository, warm, "warm");
  await publish(client, repository, cold, "cold");
}, 120_000);
afterAll(async () => {
  await berth?.stop();
  await database?.stop();
}, 60_000);

const health = async (path: string): Promise<number> => (await fetch(`${berth.url}${path}`)).status;

/** Pulls by tag, by digest and each blob, as a client that pulls an image does. */
async function pullWarm(): Promise<void> {
  for (const reference of ["warm", warm.digest]) {
    const response = await client.pullManifest(repository, reference);
    expect(response.status, reference).toBe(200);
    expect(digestOf(await response.bytes())).toBe(warm.digest);
  }
  for (const blob of warm.blobs) {
    const response = await client.pullBlob(repository, digestOf(blob));
    expect(response.status).toBe(200);
    expect(digestOf(await response.bytes())).toBe(digestOf(blob));
  }
}

const outages: Record<string, { begin(): void; end(): void }> = {
  "refused and reset": {
    begin() {
      database.proxy.faults.refuse = true;
      database.proxy.resetAll();
    },
    end: () => database.proxy.faults.clear(),
  },
  "silent, both ways": {
    begin() {
      database.proxy.faults.silent.toServer = true;
      database.proxy.faults.silent.toClient = true;
    },
    end: () => database.proxy.faults.clear(),
  },
  "silent, on the way back": {
    begin() {
      database.proxy.faults.silent.toClient = true;
    },
    end: () => database.proxy.faults.clear(),
  },
};

for (const [name, outage] of Object.entries(outages)) {
  test(`the database ${name}: warm pulls go on, the rest is refused, and all comes back`, async () => {
    await pullWarm();
    outage.begin();
    try {
      // Whoever asks first may have to find it out.
      await pullWarm();
      await until("it is known to be away", async () => (await health("/health/instance")) === 503);
      const startedMs = performance.now();
      for (let round = 0; round < 20; round++) await pullWarm();
      const warmMs = performance.now() - startedMs;
      const refusals = [
        () => client.pullManifest(repository, "cold"),
        () => client.pullBlob(repository, digestOf(cold.blobs[1] ?? new Uint8Array())),
        () => client.pushManifest(repository, "written", warm.manifest, warm.mediaType),
        () => client.pushBlob(repository, fixedBytes(100, 3)),
        () => client.listTags(repository),
      ];
      const refusedMs = performance.now();
      for (const refusal of refusals) await expectRefusal(await refusal());
      // At once: neither waits for a timeout of the database.
      expect(performance.now() - refusedMs).toBeLessThan(3_000 * refusals.length);
      expect(warmMs).toBeLessThan(60_000);
      expect(await health("/health/endtoend")).toBe(503);
    } finally {
      outage.end();
    }
    await until("a push is taken", async () => (await client.pushBlob(repository, fixedBytes(100, 3))).status === 201);
    await until("it is well", async () => (await health("/health/instance")) === 200);
    expect((await client.pullManifest(repository, "written")).status).toBe(404);
    // By its digest alone: by its tag it stays cold for the next round.
    await pullWarm();
    expect((await client.pullManifest(repository, cold.digest)).status).toBe(200);
  }, 180_000);
}

test("with DB_OUTAGE_PULL_SECONDS 0 nothing is served from memory", async () => {
  const strict = await startBerthOn(database.uri, { DB_OUTAGE_PULL_SECONDS: 0 });
  try {
    const there = new RegistryClient({ url: strict.url, username: "admin", password: strict.adminPassword });
    expect((await there.pullManifest(repository, "warm")).status).toBe(200);
    database.proxy.faults.refuse = true;
    database.proxy.resetAll();
    await until("the pull is refused", async () => {
      const response = await there.pullManifest(repository, "warm");
      if (response.status === 200) return false;
      await expectRefusal(response);
      return true;
    });
    database.proxy.faults.clear();
    await until("it is back", async () => (await there.pullManifest(repository, "warm")).status === 200);
  } finally {
    database.proxy.faults.clear();
    await strict.stop();
  }
}, 120_000);
