/** Reads a small stored object as a whole, for those few that the registry itself looks into. */

import type { ObjectSource } from "./driver.ts";

/** The object's bytes, undefined when it has more than `sizeBytesMax`. Throws when the store fails. */
export async function readObject(source: ObjectSource, sizeBytesMax: number): Promise<Uint8Array | undefined> {
  if (source.sizeBytes > sizeBytesMax) return undefined;
  if (source.kind === "file") return Bun.file(source.path).bytes();
  return new Response(await source.open()).bytes();
}
