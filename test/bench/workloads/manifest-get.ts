/** Manifest GET by tag: what a registry does all day. The token is fetched once, as a client that polls a tag does. */
import { mediaTypes, pullScope } from "../../support/registry-client.ts";
import { type BenchServer, namespace } from "../contenders.ts";
import { loadRequests } from "../load/requests.ts";
import { atLeast, below } from "../report.ts";
import { type Measured, takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/pulled`;
export const connections = 16;

export const manifestGet: Workload = {
  name: "manifest-get",
  about: "manifest GET by tag",
  run: async ({ settings, contenders }) => {
    const generators = new Set<string>();
    const cells = await withSeats(contenders, prepareManifest, (seats) =>
      takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (server, headers, round) => {
        const { generator, ...measured } = await getManifests(server, headers, round < 0 ? 1 : settings.seconds);
        generators.add(generator);
        return measured;
      }),
    );
    return [
      {
        work: `manifest GET by tag, ${connections} connections`,
        unit: "req/s",
        cells,
        targets: [
          atLeast(cells, 10, "docker-registry"),
          atLeast(cells, 3, "zot"),
          below("p99", cells.berth?.p99Ms, 10, "ms"),
        ],
        notes: [
          `load by ${[...generators].join(", ")}; berth is asked with a bearer token, the peers have no authentication`,
        ],
      },
    ];
  },
};

/** Pushes the image whose manifest is asked for, and gives the headers to ask with. */
export async function prepareManifest(server: BenchServer): Promise<Record<string, string>> {
  const image = await server.client.pushImage(repository, "latest", { layers: 3 });
  if (image.response.status !== 201) throw new Error(`${server.name} answered ${image.response.status} to the push`);
  const authorization = await server.client.authorize(pullScope(repository));
  return authorization === undefined ? {} : { authorization };
}

/** Asks for it for so many seconds. */
export async function getManifests(
  server: BenchServer,
  headers: Record<string, string>,
  seconds: number,
): Promise<Measured & { generator: string }> {
  const { perSecond, ...figures } = await loadRequests({
    url: `${server.url}/v2/${repository}/manifests/latest`,
    headers: { ...headers, accept: mediaTypes.manifest },
    connections,
    seconds,
  });
  return { figure: perSecond, ...figures };
}
