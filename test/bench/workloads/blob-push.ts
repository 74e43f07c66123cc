/** One large blob over one stream, as a client pushes a layer: POST, PATCH with the content, PUT. */
import { pushScope } from "../../support/registry-client.ts";
import { hashAndWrite } from "../by-hand.ts";
import { type BenchServer, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { makePayload } from "../load/payload.ts";
import { pushBlobStream } from "../load/push.ts";
import { atLeast, median, type Row } from "../report.ts";
import { settle, takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/large`;
const mb = 1_000_000;

export const blobPush: Workload = {
  name: "blob-push",
  about: "one large blob over one stream",
  run: async ({ settings, contenders }) => {
    const byHand: number[] = [];
    let handRound: number | undefined;
    const prepare = (server: BenchServer) => server.client.authorize(pushScope(repository));
    const cells: Row["cells"] = await withSeats(contenders, prepare, (seats) =>
      takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (server, authorization, round) => {
        // the ceiling belongs into the same minute as the servers: disks have moods
        if (round >= 0 && handRound !== round) {
          handRound = round;
          byHand.push(hashAndWrite(makePayload(settings.blobBytes)) / mb);
          await settle();
        }
        const payload = makePayload(round < 0 ? settings.blobBytes / 8 : settings.blobBytes);
        const connection = new RawConnection(server.url);
        const start = performance.now();
        await pushBlobStream({ connection, repository, authorization }, payload);
        const seconds = (performance.now() - start) / 1000;
        connection.close();
        return payload.sizeBytes / mb / seconds;
      }),
    );
    cells["by hand"] = { median: median(byHand), rounds: byHand };
    return [
      {
        work: `blob push, ${settings.blobBytes / 2 ** 20} MiB, one stream`,
        unit: "MB/s",
        cells,
        targets: [atLeast(cells, 2, "docker-registry"), atLeast(cells, 0.7, "by hand")],
        notes: ["by hand: SHA-256, write and fsync of the same bytes in one loop, no HTTP"],
      },
    ];
  },
};
