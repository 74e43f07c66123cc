/**
 * One large blob through S3: pushed, and pulled by redirect and through the registry, against docker-registry's own S3 driver
 * on the same server. Both hash what is pushed and move it inside the store when it is complete.
 */

import { startNginxProxy } from "../../support/nginx.ts";
import { pullScope, pushScope } from "../../support/registry-client.ts";
import { type S3Server, s3At, startOwnS3 } from "../../support/s3.ts";
import { type BenchServer, berth, berthWith, type Contender, dockerRegistryWith, namespace } from "../contenders.ts";
import { RawConnection } from "../load/connection.ts";
import { makePayload, type Payload } from "../load/payload.ts";
import { pullBlob } from "../load/pull.ts";
import { pushBlobAtOnce, pushBlobStream } from "../load/push.ts";
import { atLeast, type Row } from "../report.ts";
import { type Bench, takeTurns, type Workload, withSeats } from "../workload.ts";

const repository = `${namespace}/large`;
const mb = 1_000_000;
const note =
  "versitygw on this machine's disk behind nginx, plain HTTP, on the same cores as the registries and the load";

export const s3: Workload = {
  name: "s3",
  about: "one large blob pushed to S3, and pulled from it by redirect and through the registry",
  run: async (bench) => {
    const store = await startOwnS3();
    try {
      // versitygw does not answer "Expect: 100-continue", for which docker-registry's library waits a second with each part.
      const nginx = await startNginxProxy(store.endpoint);
      const server = s3At(store, nginx.url);
      try {
        return [
          await pushRow(bench, server, "POST, PATCH, PUT", pushBlobStream),
          await pushRow(bench, server, "POST, PUT", pushBlobAtOnce),
          await pullRow(bench, server, "through the registry", false),
          await pullRow(bench, server, "by redirect", true),
        ];
      } finally {
        await nginx.stop();
      }
    } finally {
      await store.stop();
    }
  },
};

/** Berth with its blobs in a bucket of its own, beside the embedded default. */
export function berthOnS3(server: S3Server, redirects: boolean): Contender {
  return berthWith("berth", async () => ({
    database: "sqlite",
    overrides: {
      DISTRIBUTED_STORAGE_CONFIG: { default: server.engineConfig(await server.createBucket()) },
      FEATURE_PROXY_STORAGE: !redirects,
    },
  }));
}

/** Those of the run that can store blobs in S3, on this server. */
function onS3({ contenders }: Bench, server: S3Server, redirects: boolean): Contender[] {
  return contenders.flatMap((contender) => {
    if (contender === berth) return [berthOnS3(server, redirects)];
    if (contender.name !== "docker-registry") return [];
    return [dockerRegistryWith(async () => ({ redirects, s3: { server, bucket: await server.createBucket() } }))];
  });
}

async function pushRow(bench: Bench, s3Server: S3Server, shape: string, push: typeof pushBlobStream): Promise<Row> {
  const { settings } = bench;
  const prepare = (server: BenchServer) => server.client.authorize(pushScope(repository));
  const cells = await withSeats(onS3(bench, s3Server, false), prepare, (seats) =>
    takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (server, authorization, round) => {
      const payload = makePayload(round < 0 ? settings.blobBytes / 8 : settings.blobBytes);
      const start = performance.now();
      await pushOne(server, authorization, payload, push);
      return payload.sizeBytes / mb / ((performance.now() - start) / 1000);
    }),
  );
  const work = `S3: blob push, ${settings.blobBytes / 2 ** 20} MiB, one stream (${shape})`;
  return { work, unit: "MB/s", cells, targets: [atLeast(cells, 1.5, "docker-registry")], notes: [note] };
}

async function pullRow(bench: Bench, s3Server: S3Server, how: string, redirects: boolean): Promise<Row> {
  const { settings } = bench;
  const payload = makePayload(settings.blobBytes);
  const path = `/v2/${repository}/blobs/${payload.digest}`;
  const prepare = async (server: BenchServer) => {
    await pushOne(server, await server.client.authorize(pushScope(repository)), payload, pushBlobStream);
    const authorization = await server.client.authorize(pullScope(repository));
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const answer = await fetch(server.url + path, { headers, redirect: "manual" });
    await answer.body?.cancel();
    if (answer.status >= 300 !== redirects) throw new Error(`${server.name} answered a pull with ${answer.status}`);
    return authorization;
  };
  const cells = await withSeats(onS3(bench, s3Server, redirects), prepare, (seats) =>
    takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (server, authorization) => {
      const load = { url: server.url + path, authorization, streams: 1, sizeBytes: payload.sizeBytes };
      return (await pullBlob(load)) / mb;
    }),
  );
  const work = `S3: blob pull, ${settings.blobBytes / 2 ** 20} MiB, one stream, ${how}`;
  // By redirect both are out of the way; through Berth bytes pass through JavaScript, which resumes a connection that breaks.
  const targets = [atLeast(cells, redirects ? 0.9 : 0.7, "docker-registry")];
  return { work, unit: "MB/s", cells, targets, notes: [note] };
}

async function pushOne(
  server: BenchServer,
  authorization: string | undefined,
  payload: Payload,
  push: typeof pushBlobStream,
): Promise<void> {
  const connection = new RawConnection(server.url);
  await push({ connection, repository, authorization }, payload);
  connection.close();
}
