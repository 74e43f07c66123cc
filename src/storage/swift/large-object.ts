/**
 * Large objects, which Swift keeps as segments and a manifest: what an object is made of, how a new one is put together
 * without moving its bytes, and how one is removed with all it is made of. Quay's buckets are full of dynamic ones.
 */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import { readText } from "../remote/request.ts";
import { NAME, pathOf, type SwiftClient } from "./client.ts";
import { newRun, type SwiftNames } from "./names.ts";
import { type Piece, parseJson, uploadUnknown } from "./state.ts";

/** Swift asks for every segment before it takes a manifest. */
const MANIFEST_MS = 300_000;
/** The longest manifest a cluster takes: 8 MiB by default. */
const MANIFEST_CHARS_MAX = 64 * 1024 * 1024;
/** Swift's own bound for manifests of manifests. */
const DEPTH_MAX = 10;
/** Requests of one removal or copy at once. */
const AT_ONCE = 8;
/** How long a container's listing may lag behind its objects before a blob that depends on it is given up. */
const LISTING_MS = 30_000;
const LISTING_POLL_MS = 100;

const manifestShape = z.array(
  z.object({ name: z.string(), bytes: z.number(), sub_slo: z.union([z.boolean(), z.string()]).optional() }),
);

/** What a manifest refers to, besides itself. */
export type Parts =
  /** Static: exactly these names. */
  | { readonly kind: "static"; readonly names: ReadonlySet<string> }
  /** Dynamic: whatever begins with this. */
  | { readonly kind: "dynamic"; readonly prefix: string };

export function isPart(parts: Parts, name: string): boolean {
  return parts.kind === "static" ? parts.names.has(name) : name.startsWith(parts.prefix);
}

/** What the object is made of, by its headers; undefined for one that holds its bytes itself. */
export async function partsOf(client: SwiftClient, object: string, headers: Headers): Promise<Parts | undefined> {
  const dynamic = headers.get("x-object-manifest");
  if (dynamic !== null) {
    const [container = "", ...rest] = dynamic.split("/").map(decodeURIComponent);
    if (container !== client.container) throw elsewhere(object, container);
    return { kind: "dynamic", prefix: rest.join("/") };
  }
  if (headers.get("x-static-large-object")?.toLowerCase() !== "true") return undefined;
  const names = new Set<string>();
  await readManifest(client, object, names, DEPTH_MAX);
  return { kind: "static", names };
}

async function readManifest(client: SwiftClient, object: string, names: Set<string>, depthMax: number): Promise<void> {
  const query = { "multipart-manifest": "get" };
  const response = await client.send({ method: "GET", object, query, accept: [404] });
  const text = await readText(response, MANIFEST_CHARS_MAX);
  if (response.status === 404) return;
  const manifest = manifestShape.safeParse(parseJson(text));
  if (!manifest.success) {
    const message = `${NAME} does not give out the manifest of "${object}"`;
    throw new RegistryError("unavailable", { message, cause: manifest.error });
  }
  for (const { name, sub_slo } of manifest.data) {
    const [, container = "", ...rest] = name.split("/");
    if (container !== client.container) throw elsewhere(object, container);
    const part = rest.join("/");
    names.add(part);
    if (sub_slo && depthMax > 1) await readManifest(client, part, names, depthMax - 1);
  }
}

/** Every upload whose segments an object is made of, so that they can be told of before they lose it. */
export function uploadsOf(names: SwiftNames, parts: Parts): ReadonlySet<string> {
  const found = parts.kind === "static" ? [...parts.names] : [parts.prefix];
  return new Set(found.map((name) => names.uploadIdOf(name)).filter((id) => id !== undefined));
}

/** The objects that `parts` are now. */
export async function* namesOf(client: SwiftClient, parts: Parts): AsyncGenerator<string> {
  if (parts.kind === "static") yield* parts.names;
  else for await (const { name } of client.list(parts.prefix)) yield name;
}

/** Removes objects, a few at a time. That one is not there is no error. */
export async function removeAll(client: SwiftClient, names: AsyncIterable<string> | Iterable<string>): Promise<void> {
  await eachOf(names, (name) => client.remove(name));
}

/** Writes the manifest that makes one object of `pieces`, without moving their bytes where Swift has static ones. */
export async function assemble(
  client: SwiftClient,
  names: SwiftNames,
  uploadId: string,
  pieces: readonly Piece[],
  object: string,
): Promise<void> {
  const { staticSegmentsMax } = await client.info();
  if (staticSegmentsMax === undefined) return assembleDynamic(client, names, uploadId, pieces, object);
  let level = pieces;
  // Manifests of manifests, until one holds all. They are the upload's segments like those they name.
  while (level.length > staticSegmentsMax) {
    const run = newRun();
    await client.put(names.run(uploadId, run), "");
    const above: Piece[] = [];
    for (let from = 0; from < level.length; from += staticSegmentsMax) {
      const slice = level.slice(from, from + staticSegmentsMax);
      const name = names.segment(uploadId, run, above.length);
      await putManifest(client, uploadId, slice, name);
      above.push({ name, sizeBytes: slice.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) });
    }
    level = above;
  }
  await putManifest(client, uploadId, level, object);
}

async function putManifest(
  client: SwiftClient,
  uploadId: string,
  pieces: readonly Piece[],
  object: string,
): Promise<void> {
  // Swift compares each size with the segment's, and refuses a manifest of which one is missing.
  const rows = pieces.map(({ name, sizeBytes }) => ({ path: `/${client.container}/${name}`, size_bytes: sizeBytes }));
  const response = await client.send({
    method: "PUT",
    object,
    query: { "multipart-manifest": "put" },
    headers: { "content-type": "application/octet-stream" },
    body: JSON.stringify(rows),
    accept: [400],
    answerMs: MANIFEST_MS,
  });
  const text = await readText(response);
  if (response.status !== 400) return;
  if (/\b404\b|not found/i.test(text)) throw uploadUnknown(uploadId, "has lost bytes and must be started again");
  throw new RegistryError("unavailable", { message: `${NAME} refused a manifest of ${pieces.length} segments` });
}

/**
 * A dynamic large object is everything below one prefix: one run can be it as it lies, several are copied into a new one.
 * Swift reads it from a listing, which may lag: what it does not show yet would be missing in the middle of the blob.
 */
async function assembleDynamic(
  client: SwiftClient,
  names: SwiftNames,
  uploadId: string,
  pieces: readonly Piece[],
  object: string,
): Promise<void> {
  const folder = (pieces[0]?.name ?? "").replace(/[^/]*$/, "");
  const isOneRun = pieces.every(({ name }) => name.startsWith(folder));
  let prefix = folder;
  if (!isOneRun || !(await isListed(client, prefix, pieces))) {
    prefix = await copyRuns(client, names, uploadId, pieces);
    if (!(await isListed(client, prefix, pieces))) throw uploadUnknown(uploadId, "must be started again");
  }
  await client.put(object, "", { "x-object-manifest": pathOf(client.container, prefix) });
}

async function copyRuns(
  client: SwiftClient,
  names: SwiftNames,
  uploadId: string,
  pieces: readonly Piece[],
): Promise<string> {
  const run = newRun();
  await client.put(names.run(uploadId, run), "");
  await eachOf(pieces.entries(), async ([index, { name }]) => {
    const isCopied = await client.copy(name, names.segment(uploadId, run, index));
    if (!isCopied) throw uploadUnknown(uploadId, "has lost bytes and must be started again");
  });
  return names.runSegments(uploadId, run);
}

/** Waits until the listing shows `pieces`. False when it shows more: a segment of which a later run took the bytes. */
async function isListed(client: SwiftClient, prefix: string, pieces: readonly Piece[]): Promise<boolean> {
  const deadline = performance.now() + LISTING_MS;
  for (;;) {
    const listed: number[] = [];
    for await (const { sizeBytes } of client.list(prefix)) listed.push(sizeBytes);
    if (listed.length > pieces.length) return false;
    if (listed.length === pieces.length && pieces.every(({ sizeBytes }, index) => sizeBytes === listed[index]))
      return true;
    if (performance.now() > deadline) {
      const message = `${NAME} lists ${listed.length} of ${pieces.length} segments after ${LISTING_MS} ms`;
      throw new RegistryError("unavailable", { message });
    }
    await Bun.sleep(LISTING_POLL_MS);
  }
}

/** Works through `items`, a few at once; the first failure ends it when those under way are over. */
async function eachOf<T>(items: AsyncIterable<T> | Iterable<T>, work: (item: T) => Promise<unknown>): Promise<void> {
  const running = new Set<Promise<unknown>>();
  let failure: unknown;
  for await (const item of items) {
    const run: Promise<unknown> = work(item)
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => running.delete(run));
    running.add(run);
    if (running.size >= AT_ONCE) await Promise.race(running);
    if (failure !== undefined) break;
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure;
}

function elsewhere(object: string, container: string): RegistryError {
  const message = `the segments of "${object}" lie in container "${container}", which is not this engine's`;
  return new RegistryError("unavailable", { message });
}
