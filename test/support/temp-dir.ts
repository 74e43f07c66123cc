/** Temporary directories below the system's own, removed when the caller asks or, at the latest, when the process exits. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TempDir {
  readonly path: string;
  remove(): void;
}

const alive = new Set<TempDir>();
process.on("exit", () => {
  for (const dir of alive) dir.remove();
});

/** Makes a directory of mode 0700 whose name starts with `berth-PURPOSE-`. */
export function makeTempDir(purpose: string): TempDir {
  const path = mkdtempSync(join(tmpdir(), `berth-${purpose}-`));
  const dir: TempDir = {
    path,
    remove: () => {
      rmSync(path, { recursive: true, force: true, maxRetries: 3 });
      alive.delete(dir);
    },
  };
  alive.add(dir);
  return dir;
}
