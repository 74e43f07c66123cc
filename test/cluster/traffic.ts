/**
 * Pushes and pulls without a pause, by clients that try nothing twice: what goes wrong for one of them is kept, and is what a
 * user would have seen.
 */
import { randomBytes } from "node:crypto";
import {
  digestOf,
  pullScope,
  pushScope,
  RegistryClient,
  uploadLocation,
  withDigest,
} from "../support/registry-client.ts";

export interface Traffic {
  /** Requests that were answered as they should be. */
  requests(): number;
  pushes(): number;
  readonly failures: readonly string[];
  /** Lets each client end what it does, and stops. */
  stop(): Promise<void>;
}

export interface TrafficOptions {
  readonly url: string;
  readonly username: string;
  readonly password: string;
  readonly clients: number;
}

/** Bytes of a layer; each second one is pushed in chunks. */
const layerBytes = 150_000;
const chunkBytes = 60_000;

export function startTraffic(options: TrafficOptions): Traffic {
  const failures: string[] = [];
  const counts = { requests: 0, pushes: 0 };
  let stopped = false;

  async function run(index: number): Promise<void> {
    const client = new RegistryClient(options);
    const repository = `${options.username}/traffic-${index}`;
    /** Throws unless the answer has the status that it should have. */
    const expected = async (status: number, answered: Promise<Response>): Promise<Response> => {
      const response = await answered;
      if (response.status !== status) throw new Error(`${response.status} for ${status}: ${await response.text()}`);
      counts.requests++;
      return response;
    };
    const pushBlob = async (content: Uint8Array, isChunked: boolean) => {
      const scope = pushScope(repository);
      const send = (status: number, method: string, path: string, body?: Uint8Array, from?: number) =>
        expected(
          status,
          client.request(path, {
            method,
            scope,
            ...(body === undefined ? {} : { body: new Uint8Array(body) }),
            ...(from === undefined || !body
              ? {}
              : { headers: { "content-range": `${from}-${from + body.length - 1}` } }),
          }),
        );
      let answer = await send(202, "POST", `/v2/${repository}/blobs/uploads/`);
      if (isChunked) {
        for (let start = 0; start < content.length; start += chunkBytes) {
          const chunk = content.subarray(start, start + chunkBytes);
          answer = await send(202, "PATCH", uploadLocation(answer), chunk, start);
        }
      }
      const end = withDigest(uploadLocation(answer), digestOf(content));
      await send(201, "PUT", end, isChunked ? undefined : content);
    };
    for (let round = 0; !stopped; round++) {
      try {
        const layer = randomBytes(layerBytes);
        const config = randomBytes(100);
        await pushBlob(layer, round % 2 === 1);
        await pushBlob(config, false);
        const describe = (content: Uint8Array, mediaType: string) => ({
          mediaType,
          digest: digestOf(content),
          size: content.length,
        });
        const manifest = {
          schemaVersion: 2,
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          config: describe(config, "application/vnd.oci.image.config.v1+json"),
          layers: [describe(layer, "application/vnd.oci.image.layer.v1.tar")],
        };
        await expected(201, client.pushManifest(repository, `v${round}`, manifest));
        const fresh = { "cache-control": "no-cache" };
        for (let pull = 0; pull < 3 && !stopped; pull++) {
          await (await expected(200, client.pullManifest(repository, `v${round}`, { headers: fresh }))).bytes();
          const blob = await expected(
            200,
            client.pullBlob(repository, digestOf(layer), { scope: pullScope(repository) }),
          );
          if (digestOf(await blob.bytes()) !== digestOf(layer)) throw new Error("a blob came with other bytes");
        }
        counts.pushes++;
      } catch (error) {
        failures.push(`${new Date().toISOString()} client ${index} round ${round}: ${error}`);
        // A client that is refused at once must not fill the memory with it.
        await Bun.sleep(100);
      }
    }
  }

  const clients = Array.from({ length: options.clients }, (_, index) => run(index));
  return {
    requests: () => counts.requests,
    pushes: () => counts.pushes,
    failures,
    async stop() {
      stopped = true;
      await Promise.all(clients);
    },
  };
}
