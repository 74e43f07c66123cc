/** Resident memory: of a server that has just started, and at its highest while many large blobs are pushed at once. */
import { pushScope } from "../../support/registry-client.ts";
import { type BenchServer, berth, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { makePayload } from "../load/payload.ts";
import { pushBlobStream } from "../load/push.ts";
import { below, type Cell, type Row } from "../report.ts";
import { settle, type Workload } from "../workload.ts";

const repository = `${namespace}/many`;
const idleMs = 2_000;
const mb = 1_000_000;

export const memory: Workload = {
  name: "memory",
  about: "resident memory when idle and under many large pushes",
  run: async ({ settings, contenders }) => {
    const idle: Record<string, Cell> = {};
    const busy: Record<string, Cell> = {};
    const rates: string[] = [];
    for (const contender of contenders) {
      const server = await contender.start();
      try {
        await server.client.authorize(pushScope(repository));
        await Bun.sleep(idleMs);
        const { rssBytes, peakRssBytes } = server.memory();
        idle[server.name] = { median: rssBytes / mb, rounds: [rssBytes / mb], peakRssBytes };
        const sizeBytes = contender === berth ? settings.memoryPushBytes : settings.memoryPeerPushBytes;
        const { cell, rate } = await pushAtOnce(server, settings.memoryPushes, sizeBytes);
        busy[server.name] = cell;
        rates.push(`${server.name}: ${rate}`);
      } finally {
        await server.stop();
      }
    }
    const pushes = `${settings.memoryPushes} large pushes at once`;
    const rows: Row[] = [
      {
        work: "memory, idle",
        unit: "MB",
        cells: idle,
        targets: [below("RSS", idle.berth?.median, 90, "MB")],
        notes: [`resident ${idleMs / 1000} s after the first request`],
      },
      {
        work: `memory, ${pushes}`,
        unit: "MB",
        cells: busy,
        targets: [below("peak RSS", settings.quick ? undefined : busy.berth?.median, 200, "MB")],
        notes: [`${rates.join("; ")}; one round: a peak has no median`],
      },
    ];
    return rows;
  },
};

/** The highest resident memory, in MB, while so many blobs of one size are pushed at once, and how fast that went. */
export async function pushAtOnce(
  server: BenchServer,
  pushes: number,
  sizeBytes: number,
): Promise<{ cell: Cell; rate: string }> {
  const authorization = await server.client.authorize(pushScope(repository));
  server.resetPeak();
  await settle();
  const start = performance.now();
  const push = async () => {
    const connection = new RawConnection(server.url);
    await pushBlobStream({ connection, repository, authorization }, makePayload(sizeBytes));
    connection.close();
  };
  await Promise.all(Array.from({ length: pushes }, push));
  const seconds = (performance.now() - start) / 1000;
  const { peakRssBytes } = server.memory();
  const rate = (pushes * sizeBytes) / mb / seconds;
  return {
    cell: { median: peakRssBytes / mb, rounds: [peakRssBytes / mb], peakRssBytes },
    rate: `${sizeBytes / 2 ** 20} MiB each, ${seconds.toFixed(1)} s (${Math.round(rate)} MB/s)`,
  };
}
