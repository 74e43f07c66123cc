/** Manifest GET by tag: what a registry does all day. The token is fetched once, as a client that polls a tag does. */
import { mediaTypes, pullScope } from "../../support/registry-client.ts";
import { type BenchServer, namespace } from "../contenders.ts";
import { loadRequests } from "../load/requests.ts";
import { atLeast, below } from "../report.ts";
import { takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/pulled`;
const connections = 16;

export const manifestGet: Workload = {
  name: "manifest-get",
  run: async ({ settings, contenders }) => {
    const generators = new Set<string>();
    const prepare = async (server: BenchServer) => {
      const image = await server.client.pushImage(repository, "latest", { layers: 3 });
      if (image.response.status !== 201)
        throw new Error(`${server.name} answered ${image.response.status} to the push`);
      const authorization = await server.client.authorize(pullScope(repository));
      return authorization === undefined ? {} : { authorization };
    };
    const cells = await withSeats(contenders, prepare, (seats) =>
      takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (server, headers, round) => {
        const figures = await loadRequests({
          url: `${server.url}/v2/${repository}/manifests/latest`,
          headers: { ...headers, accept: mediaTypes.manifest },
          connections,
          seconds: round < 0 ? 1 : settings.seconds,
        });
        generators.add(figures.generator);
        return { figure: figures.perSecond, p50Ms: figures.p50Ms, p99Ms: figures.p99Ms };
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
