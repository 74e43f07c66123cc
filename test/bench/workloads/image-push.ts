/** Image push in the shape of zot's `zb`: config, one layer of 1 MB and the manifest, a new tag each, ten pushers at once. */
import { pushScope } from "../../support/registry-client.ts";
import { type BenchServer, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { pushImage } from "../load/push.ts";
import { atLeast } from "../report.ts";
import type { Settings } from "../settings.ts";
import { type Measured, takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/pushed`;

export const imagePush: Workload = {
  name: "image-push",
  about: "images of one layer, ten pushers at once",
  run: async ({ settings, contenders }) => {
    const cells = await withSeats(contenders, authorizePushes, (seats) =>
      takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, (server, authorization, round) =>
        pushImages(server, authorization, { ...settings, seconds: round < 0 ? 1 : settings.seconds }),
      ),
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

export function authorizePushes(server: BenchServer): Promise<string | undefined> {
  return server.client.authorize(pushScope(repository));
}

/** A round of pushes, with more of its latencies. */
export interface PushTimes extends Measured {
  readonly meanMs: number;
  readonly p95Ms: number;
}

/** Pushes images for so many seconds, or until `isOver` is true; the latencies are of whole pushes. */
export async function pushImages(
  server: BenchServer,
  authorization: string | undefined,
  load: Pick<Settings, "seconds" | "imagePushers" | "imageLayerBytes">,
  isOver: () => boolean = () => false,
): Promise<PushTimes> {
  const start = performance.now();
  const end = start + load.seconds * 1000;
  const pushesMs: number[] = [];
  const pusher = async () => {
    const connection = new RawConnection(server.url);
    while (performance.now() < end && !isOver()) {
      const begun = performance.now();
      await pushImage({ connection, repository, authorization }, `t${crypto.randomUUID()}`, load.imageLayerBytes);
      pushesMs.push(performance.now() - begun);
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: load.imagePushers }, pusher));
  const seconds = (performance.now() - start) / 1000;
  pushesMs.sort((a, b) => a - b);
  const at = (share: number) => pushesMs[Math.floor(pushesMs.length * share)] ?? Number.NaN;
  const meanMs = pushesMs.reduce((sum, each) => sum + each, 0) / pushesMs.length;
  return { figure: pushesMs.length / seconds, meanMs, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) };
}
