/** From starting the process to the first 200 on /v2/ with credentials, on an empty store and on one with many blobs. */

import { defaultAdminPassword, startBerth } from "../../support/berth.ts";
import { freePort } from "../../support/process.ts";
import { basicAuthorization } from "../../support/registry-client.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { berth, namespace, startBerthServer } from "../contenders.ts";
import { below, type Cell, median } from "../report.ts";
import { seedBlobs } from "../seed.ts";
import type { Workload } from "../workload.ts";

const repository = `${namespace}/seeded`;
const pollMs = 2;
const giveUpMs = 30_000;

export const coldStart: Workload = {
  name: "cold-start",
  about: "from starting the process to the first answer",
  run: async ({ settings, contenders }) => {
    if (!contenders.includes(berth)) return [];
    const empty: number[] = [];
    const full: number[] = [];
    let peakRssBytes = 0;
    const seeded = makeTempDir("bench-start");
    try {
      const server = await startBerthServer({ dataDir: seeded.path, database: "sqlite" });
      await server.client.pushImage(repository, "latest").finally(() => server.stop());
      seedBlobs(seeded.path, repository, settings.blobRows);
      for (let round = -1; round < settings.rounds; round++) {
        const fresh = makeTempDir("bench-start");
        const first = await timeStart(fresh.path);
        fresh.remove();
        const again = await timeStart(seeded.path);
        if (round < 0) continue;
        empty.push(first.elapsedMs);
        full.push(again.elapsedMs);
        peakRssBytes = Math.max(peakRssBytes, again.peakRssBytes);
      }
    } finally {
      seeded.remove();
    }
    const cells: Record<string, Cell> = {
      "berth, empty (first start)": { median: median(empty), rounds: empty },
      [`berth, ${settings.blobRows.toLocaleString("en-US")} blobs`]: {
        median: median(full),
        rounds: full,
        peakRssBytes,
      },
    };
    return [
      {
        work: "cold start to first 200",
        unit: "ms",
        cells,
        targets: [below("with blobs", settings.quick ? undefined : median(full), 300, "ms")],
        notes: [
          "Basic credentials, so one argon2id check is part of it; files are in the page cache",
          "the empty store's first start also makes the schema, the keys and the first account",
        ],
      },
    ];
  },
};

/** Starts Berth on a port chosen beforehand and asks until it answers 200; asking starts with the process. */
async function timeStart(dataDir: string): Promise<{ elapsedMs: number; peakRssBytes: number }> {
  const port = await freePort();
  const headers = { authorization: basicAuthorization("admin", defaultAdminPassword) };
  const start = performance.now();
  const starting = startBerth({ dataDir, database: "sqlite", listen: `127.0.0.1:${port}` });
  let elapsedMs: number | undefined;
  while (elapsedMs === undefined && performance.now() - start < giveUpMs) {
    const status = await fetch(`http://127.0.0.1:${port}/v2/`, { headers }).then(
      (response) => response.status,
      () => undefined,
    );
    if (status === 200) elapsedMs = performance.now() - start;
    else await Bun.sleep(pollMs);
  }
  const server = await starting;
  const { peakRssBytes } = server.memory();
  await server.stop();
  if (elapsedMs === undefined) throw new Error(`no 200 on /v2/ within ${giveUpMs} ms:\n${server.logs()}`);
  return { elapsedMs, peakRssBytes };
}
