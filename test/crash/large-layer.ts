/**
 * One layer of many GiB through a real server, pushed with a single PATCH and pulled back: `bun test/crash/large-layer.ts
 * --gib 12`. The bytes are made while they are sent and hashed while they come back, so neither side keeps a file of its
 * own; what is watched is the memory of the server.
 */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { startBerth } from "../support/berth.ts";
import {
  digestOf,
  pullScope,
  pushScope,
  RegistryClient,
  uploadLocation,
  withDigest,
} from "../support/registry-client.ts";

export interface LargeLayerFigures {
  readonly sizeBytes: number;
  readonly pushSeconds: number;
  readonly pullSeconds: number;
  /** Resident memory of the server after a small push and pull, before the large one. */
  readonly beforeBytes: number;
  /** Highest resident memory while pushing, and while pulling. */
  readonly pushPeakBytes: number;
  readonly pullPeakBytes: number;
  readonly afterBytes: number;
}

/** What the server may grow by, from the small push to the peak of the large one. Source: issue "push and pull", accepted when. */
export const GROWTH_BYTES_MAX = 100 * 1000 * 1000;

const GIB = 1024 ** 3;
const REPOSITORY = "admin/large";
/** Handed to the connection at once; each carries its number, so that no two are alike and none can be swapped. */
const BLOCK_BYTES = 1024 * 1024;

/**
 * Pushes and pulls a layer of `gib` GiB (fractions allowed) and gives what it took. Throws when an answer is not what it
 * should be or when other bytes come back.
 */
export async function pushAndPullLargeLayer(gib: number): Promise<LargeLayerFigures> {
  const sizeBytes = Math.round((gib * GIB) / BLOCK_BYTES) * BLOCK_BYTES;
  const berth = await startBerth();
  try {
    const client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
    await warmUp(client);
    const beforeBytes = berth.memory().rssBytes;

    berth.resetPeak();
    const pushStarted = performance.now();
    const digest = await push(client, sizeBytes);
    const pushSeconds = (performance.now() - pushStarted) / 1000;
    const pushPeakBytes = berth.memory().peakRssBytes;

    berth.resetPeak();
    const pullStarted = performance.now();
    await pull(client, digest, sizeBytes);
    const pullSeconds = (performance.now() - pullStarted) / 1000;
    const { rssBytes: afterBytes, peakRssBytes: pullPeakBytes } = berth.memory();
    return { sizeBytes, pushSeconds, pullSeconds, beforeBytes, pushPeakBytes, pullPeakBytes, afterBytes };
  } finally {
    await berth.stop();
  }
}

export function growthBytes(figures: LargeLayerFigures): number {
  return Math.max(figures.pushPeakBytes, figures.pullPeakBytes) - figures.beforeBytes;
}

/** A log-in, a push and a pull of 8 MiB: what any server does once before it is as large as it normally is. */
async function warmUp(client: RegistryClient): Promise<void> {
  const content = randomBytes(8 * BLOCK_BYTES);
  const pushed = await client.pushBlob(REPOSITORY, content, { shape: "patch" });
  if (pushed.status !== 201) throw new Error(`the small push was answered with ${pushed.status}`);
  const pulled = await client.pullBlob(REPOSITORY, digestOf(content));
  const digest = digestOf(new Uint8Array(await pulled.arrayBuffer()));
  if (digest !== digestOf(content)) throw new Error("the small pull gave other bytes");
}

/** Gives the digest of what was pushed. */
async function push(client: RegistryClient, sizeBytes: number): Promise<string> {
  const authorization = (await client.authorize(pushScope(REPOSITORY))) ?? "";
  const started = await client.request(`/v2/${REPOSITORY}/blobs/uploads/`, {
    method: "POST",
    scope: pushScope(REPOSITORY),
  });
  const hasher = new Bun.CryptoHasher("sha256");
  // The client's own clock must not end a long transfer: only the server's may.
  const patched = await fetch(uploadLocation(started), {
    method: "PATCH",
    headers: { authorization, "content-type": "application/octet-stream", "content-length": String(sizeBytes) },
    body: blocks(sizeBytes, hasher),
    timeout: false,
  });
  if (patched.status !== 202) throw new Error(`PATCH was answered with ${patched.status}: ${await patched.text()}`);
  const digest = `sha256:${hasher.digest("hex")}`;
  const ended = await fetch(withDigest(uploadLocation(patched), digest), { method: "PUT", headers: { authorization } });
  if (ended.status !== 201) throw new Error(`PUT was answered with ${ended.status}: ${await ended.text()}`);
  return digest;
}

async function pull(client: RegistryClient, digest: string, sizeBytes: number): Promise<void> {
  const authorization = (await client.authorize(pullScope(REPOSITORY))) ?? "";
  const response = await fetch(`${client.url}/v2/${REPOSITORY}/blobs/${digest}`, {
    headers: { authorization },
    timeout: false,
  });
  if (response.status !== 200 || !response.body) throw new Error(`GET was answered with ${response.status}`);
  const hasher = new Bun.CryptoHasher("sha256");
  let received = 0;
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    hasher.update(chunk);
    received += chunk.length;
  }
  const actual = `sha256:${hasher.digest("hex")}`;
  if (received !== sizeBytes || actual !== digest) {
    throw new Error(`pushed ${sizeBytes} bytes of ${digest}, pulled ${received} bytes of ${actual}`);
  }
}

/** Blocks of one random pattern with their number in front, hashed as they are handed out; one is made at a time. */
function blocks(sizeBytes: number, hasher: Bun.CryptoHasher): ReadableStream<Uint8Array<ArrayBuffer>> {
  const pattern = randomBytes(BLOCK_BYTES);
  let sent = 0;
  return new ReadableStream(
    {
      pull(controller) {
        const block = new Uint8Array(pattern);
        new DataView(block.buffer).setFloat64(0, sent);
        hasher.update(block);
        controller.enqueue(block);
        sent += BLOCK_BYTES;
        if (sent >= sizeBytes) controller.close();
      },
    },
    { highWaterMark: 1 },
  );
}

function report(figures: LargeLayerFigures): void {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  const pace = (seconds: number) => `${seconds.toFixed(1)} s, ${(figures.sizeBytes / 1e6 / seconds).toFixed(0)} MB/s`;
  process.stdout.write(
    `layer     ${(figures.sizeBytes / GIB).toFixed(2)} GiB\n` +
      `push      ${pace(figures.pushSeconds)}\n` +
      `pull      ${pace(figures.pullSeconds)}\n` +
      `RSS before ${megabytes(figures.beforeBytes)}, peak of the push ${megabytes(figures.pushPeakBytes)}, ` +
      `peak of the pull ${megabytes(figures.pullPeakBytes)}, after ${megabytes(figures.afterBytes)}\n` +
      `growth    ${megabytes(growthBytes(figures))} (below ${megabytes(GROWTH_BYTES_MAX)} wanted)\n`,
  );
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { gib: { type: "string", default: "12" } } });
  const gib = Number(values.gib);
  if (!(gib > 0 && gib <= 1024)) throw new Error(`--gib is "${values.gib}", it must be a number above 0, at most 1024`);
  const figures = await pushAndPullLargeLayer(gib);
  report(figures);
  process.exit(growthBytes(figures) < GROWTH_BYTES_MAX ? 0 : 1);
}
