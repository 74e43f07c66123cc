/** The ceiling for a blob push: hash, write and fsync of the same bytes in a bare loop, without HTTP and metadata. */
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { makeTempDir } from "../support/temp-dir.ts";
import type { Payload } from "./load/payload.ts";

const blockBytes = 1024 * 1024;

/** Gives bytes per second. Throws when the digest is not the payload's own. */
export function hashAndWrite(payload: Payload): number {
  const dir = makeTempDir("by-hand");
  try {
    const start = performance.now();
    const hasher = new Bun.CryptoHasher("sha256");
    const fd = openSync(join(dir.path, "blob"), "w");
    for (let offset = 0; offset < payload.sizeBytes; ) {
      const block = payload.slice(offset, blockBytes);
      hasher.update(block);
      for (let written = 0; written < block.length; ) written += writeSync(fd, block, written);
      offset += block.length;
    }
    fsyncSync(fd);
    closeSync(fd);
    if (`sha256:${hasher.digest("hex")}` !== payload.digest) throw new Error("the bytes written have another digest");
    return payload.sizeBytes / ((performance.now() - start) / 1000);
  } finally {
    dir.remove();
  }
}
