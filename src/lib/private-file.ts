/** Files that hold a secret: readable by their owner alone, and never half written. */

import { chmodSync, closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";

/** Writes `text` and a line end to `path` with mode 0600, replacing what is there in one step. Throws what the disk says. */
export function writePrivateFile(path: string, text: string): void {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    const file = openSync(temporary, "wx", 0o600);
    try {
      // The mode above is narrowed by the process's mask, never widened; this one is what is meant.
      chmodSync(temporary, 0o600);
      writeSync(file, `${text}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
