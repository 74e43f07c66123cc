/** One large blob pulled over one and over ten streams, against nginx sending the same bytes with sendfile. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { startNginx } from "../../support/nginx.ts";
import { pullScope, pushScope, RegistryClient } from "../../support/registry-client.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { type BenchServer, type Contender, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { makePayload, type Payload } from "../load/payload.ts";
import { pullBlob } from "../load/pull.ts";
import { pushBlobStream } from "../load/push.ts";
import { atLeast, type Row } from "../report.ts";
import { takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/large`;
const mb = 1_000_000;
const nginxName = "nginx";

export const blobPull: Workload = {
  name: "blob-pull",
  about: "one large blob, one and ten streams, beside nginx",
  run: async ({ settings, contenders }) => {
    const payload = makePayload(settings.blobBytes);
    const path = `/v2/${repository}/blobs/${payload.digest}`;
    const root = makeTempDir("nginx-root");
    try {
      await writeFile(root.path, path, payload);
      const prepare = async (server: BenchServer) => {
        if (server.name === nginxName) return undefined;
        const connection = new RawConnection(server.url);
        const authorization = await server.client.authorize(pushScope(repository));
        await pushBlobStream({ connection, repository, authorization }, payload);
        connection.close();
        return server.client.authorize(pullScope(repository));
      };
      return await withSeats([...contenders, nginxContender(root.path)], prepare, async (seats) => {
        const rows: Row[] = [];
        for (const streams of [1, settings.pullStreams]) {
          for (const { server } of seats) server.resetPeak();
          // the single stream's rounds have warmed up for the others
          const rounds = { measured: settings.rounds, warmUps: streams === 1 ? 1 : 0 };
          const cells = await takeTurns(seats, rounds, async (server, authorization) => {
            const load = { url: server.url + path, authorization, streams, sizeBytes: payload.sizeBytes };
            return (await pullBlob(load)) / mb;
          });
          rows.push({
            work: `blob pull, ${settings.blobBytes / 2 ** 20} MiB, ${streams} stream${streams === 1 ? "" : "s"}`,
            unit: "MB/s",
            cells,
            targets: [atLeast(cells, 0.95, nginxName)],
            notes: ["pulled with curl from the page cache; nginx has sendfile on and no authentication"],
          });
        }
        return rows;
      });
    } finally {
      root.remove();
    }
  },
};

function nginxContender(root: string): Contender {
  return {
    name: nginxName,
    note: "sendfile, no authentication",
    start: async (): Promise<BenchServer> => {
      const server = await startNginx(root);
      return {
        name: nginxName,
        url: server.url,
        client: new RegistryClient({ url: server.url }),
        memory: () => server.process.memory(),
        resetPeak: () => server.process.resetPeak(),
        stop: () => server.stop(),
      };
    },
  };
}

/** Puts the content where nginx finds it under the registry's own path. */
async function writeFile(root: string, path: string, payload: Payload): Promise<void> {
  const file = join(root, path);
  mkdirSync(join(file, ".."), { recursive: true });
  const writer = Bun.file(file).writer();
  for (let offset = 0; offset < payload.sizeBytes; ) {
    const slice = payload.slice(offset, 1024 * 1024);
    writer.write(slice);
    await writer.flush();
    offset += slice.length;
  }
  await writer.end();
}
