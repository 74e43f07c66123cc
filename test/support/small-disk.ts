/**
 * A small file system that a test can fill: a tmpfs in a mount namespace of its own, reached through the process that holds
 * it. It is gone with that process, however the test ends, and nobody else sees it.
 */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface SmallDisk {
  /** Where it is seen by processes of this user, or of `user` when root asked for one. */
  readonly path: string;
  /** Takes all the room that is left. */
  fill(): void;
  free(): void;
  stop(): Promise<void>;
}

/** Makes one of `sizeBytes`. `user` is the number of the user whose processes may use it, where root asks. */
export async function startSmallDisk(sizeBytes: number, user?: number): Promise<SmallDisk> {
  const dir = makeTempDir("small-disk");
  chmodSync(dir.path, 0o755);
  const mounted = join(dir.path, "disk");
  mkdirSync(mounted);
  const isRoot = process.getuid?.() === 0;
  const asUser =
    isRoot && user !== undefined
      ? `${requireTool("setpriv")} --reuid=${user} --regid=${user} --clear-groups --pdeathsig KILL `
      : "";
  const script = `"$0" -t tmpfs -o size=${sizeBytes},mode=0777 tmpfs "$1" && echo mounted && exec ${asUser}sleep infinity`;
  const holder = startProcess({
    command: requireTool("unshare"),
    args: [...(isRoot ? [] : ["--map-root-user"]), ...["--mount", "sh", "-c", script, requireTool("mount"), mounted]],
    name: "holder of a small disk",
  });
  await holder.waitForLine(/^mounted$/, 30_000);
  const path = `/proc/${holder.pid}/root${mounted}`;
  const filler = join(path, "filler");
  return {
    path,
    fill() {
      for (const pieceBytes of [1024 * 1024, 64 * 1024, 4096]) {
        try {
          for (;;) writeFileSync(filler, new Uint8Array(pieceBytes), { flag: "a" });
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        }
      }
    },
    free: () => rmSync(filler, { force: true }),
    async stop() {
      await holder.kill();
      dir.remove();
    },
  };
}
