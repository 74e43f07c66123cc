/** Image push in the shape of zot's `zb`: config, one layer of 1 MB and the manifest, a new tag each, ten pushers at once. */
import { pushScope } from "../../support/registry-client.ts";
import { type BenchServer, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { pushImage } from "../load/push.ts";
import { atLeast } from "../report.ts";
import { takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/pushed`;

export const imagePush: Workload = {
  name: "image-push",
  run: async ({ settings, contenders }) => {
    let pushed = 0;
    const prepare = (server: BenchServer) => server.client.authorize(pushScope(repository));
    const cells = await withSeats(contenders, prepare, (seats) =>
      takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (server, authorization, round) => {
        const start = performance.now();
        const end = start + (round < 0 ? 1 : settings.seconds) * 1000;
        const pushesMs: number[] = [];
        const pusher = async () => {
          const connection = new RawConnection(server.url);
          while (performance.now() < end) {
            const begun = performance.now();
            await pushImage({ connection, repository, authorization }, `t${pushed++}`, settings.imageLayerBytes);
            pushesMs.push(performance.now() - begun);
          }
          connection.close();
        };
        await Promise.all(Array.from({ length: settings.imagePushers }, pusher));
        const seconds = (performance.now() - start) / 1000;
        pushesMs.sort((a, b) => a - b);
        const at = (share: number) => pushesMs[Math.floor(pushesMs.length * share)] ?? Number.NaN;
        return { figure: pushesMs.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
      }),
    );
    return [
      {
        work: `image push, 1 MB, ${settings.imagePushers} at once`,
        unit: "images/s",
        cells,
        targets: [atLeast(cells, 3, "docker-registry")],
        notes: ["latencies are of whole pushes: two blobs and a manifest; nothing is shared between images"],
      },
    ];
  },
};
