/**
 * One Berth as one, two and four processes that share a port, on SQLite and on PostgreSQL: what more cores of one machine
 * bring, and what the processes cost each other where there are no more.
 */
import { cpus } from "node:os";
import type { BerthOptions } from "../../support/berth.ts";
import { startOwnPostgres } from "../../support/postgres.ts";
import { pullScope, pushScope } from "../../support/registry-client.ts";
import { type BenchServer, berth, berthWith, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { makePayload } from "../load/payload.ts";
import { pullBlob } from "../load/pull.ts";
import { pushBlobStream } from "../load/push.ts";
import { atLeast, type Cell, type Row } from "../report.ts";
import type { Settings } from "../settings.ts";
import { type Seat, takeTurns, type Workload, withSeats } from "../workload.ts";
import { authorizePushes, pushImages } from "./image-push.ts";
import { connections, getManifests, prepareManifest } from "./manifest-get.ts";

const repository = `${namespace}/large`;
const mb = 1_000_000;
/** With cores to spare two processes must bring something; without, they must not cost much. */
const twoToOne = cpus().length >= 4 ? 1.5 : 0.8;
/** Tests turn durability off; figures with it alone mean something. */
const durable = { fsync: "on", synchronous_commit: "on", full_page_writes: "on" };

interface Prepared {
  readonly manifest: Record<string, string>;
  readonly push: string | undefined;
  readonly pull: { readonly url: string; readonly authorization: string | undefined };
}

export const processes: Workload = {
  name: "processes",
  about: "one, two and four processes on one port, on SQLite and on PostgreSQL",
  run: async ({ settings, contenders }) => {
    if (!contenders.includes(berth)) return [];
    const postgres = await startOwnPostgres({ settings: durable });
    try {
      return [
        ...(await measure("SQLite", settings, () => ({ database: "sqlite" }))),
        ...(await measure("PostgreSQL", settings, async () => ({ database: await postgres.createDatabase() }))),
      ];
    } finally {
      await postgres.stop();
    }
  },
};

function measure(
  database: string,
  settings: Settings,
  options: () => Promise<BerthOptions> | BerthOptions,
): Promise<Row[]> {
  const blob = makePayload(settings.blobBytes);
  const servers = settings.processes.map((count) =>
    berthWith(count === 1 ? "1 process" : `${count} processes`, async () => ({
      ...(await options()),
      args: ["--processes", String(count)],
    })),
  );
  const prepare = async (server: BenchServer): Promise<Prepared> => {
    const connection = new RawConnection(server.url);
    const authorization = await server.client.authorize(pushScope(repository));
    await pushBlobStream({ connection, repository, authorization }, blob);
    connection.close();
    const pull = {
      url: `${server.url}/v2/${repository}/blobs/${blob.digest}`,
      authorization: await server.client.authorize(pullScope(repository)),
    };
    return { manifest: await prepareManifest(server), push: await authorizePushes(server), pull };
  };
  return withSeats(servers, prepare, async (seats: Seat<Prepared>[]) => {
    const rounds = { measured: settings.rounds, warmUps: 1 };
    const row = (work: string, unit: string, cells: Record<string, Cell>): Row => ({
      work: `${database}: ${work}`,
      unit,
      cells,
      targets: [atLeast(cells, twoToOne, "1 process", "2 processes")],
      notes: [`${cpus().length} cores for the server, its database and the load; memory is the sum of all processes`],
    });
    const secondsOf = (round: number) => (round < 0 ? 1 : settings.seconds);
    const gets = await takeTurns(seats, rounds, async (server, { manifest }, round) => {
      const { figure, p50Ms, p99Ms } = await getManifests(server, manifest, secondsOf(round));
      return { figure, p50Ms, p99Ms };
    });
    const pushes = await takeTurns(seats, rounds, (server, { push }, round) =>
      pushImages(server, push, { ...settings, seconds: secondsOf(round) }),
    );
    const pulls = await takeTurns(seats, rounds, async (_, { pull }) => {
      const load = { ...pull, streams: settings.pullStreams, sizeBytes: blob.sizeBytes };
      return (await pullBlob(load)) / mb;
    });
    return [
      row(`manifest GET by tag, ${connections} connections`, "req/s", gets),
      row(`image push, 1 MB, ${settings.imagePushers} at once`, "images/s", pushes),
      row(`blob pull, ${settings.blobBytes / 2 ** 20} MiB, ${settings.pullStreams} streams`, "MB/s", pulls),
    ];
  });
}
