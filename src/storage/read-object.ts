/** Reads a small stored object as a whole, for those few that the registry itself looks into. */

import type { ObjectSource } from "./driver.ts";

/** How long a store behind a URL may take for one small object. */
const TIMEOUT_MS = 10_000;

/** The object's bytes, undefined when it has more than `sizeBytesMax`. Throws when the store fails. */
export async function readObject(source: ObjectSource, sizeBytesMax: number): Promise<Uint8Array | undefined> {
  if (source.sizeBytes > sizeBytesMax) return undefined;
  if (source.kind === "file") return Bun.file(source.path).bytes();
  if (source.kind === "stream") return new Response(await source.open()).bytes();
  const response = await fetch(source.url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`the store answered ${response.status} for an object of its own`);
  return response.bytes();
}
