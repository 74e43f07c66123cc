/**
 * More threads for file work than Bun takes by itself. Its pool has one thread per core, so two fsyncs on a small machine
 * hold up every other file operation; disks and file systems finish many fsyncs together faster than one by one. Pushes of
 * small images from ten clients gained a third (two cores, ext4).
 */

import { ownCommand } from "./own-command.ts";

/** Waiting for a disk costs a thread's stack and nothing else. */
const THREADS = "16";

/**
 * Starts this process again with a larger pool, keeping its process id. The size is read before any of our code runs, so
 * setting it now would be too late. Does nothing when an operator has chosen a size, or where the system cannot do it.
 */
export function growThreadPool(env: Readonly<Record<string, string | undefined>>): void {
  if (env.UV_THREADPOOL_SIZE !== undefined || typeof process.execve !== "function") return;
  process.execve(process.execPath, ownCommand(), { ...env, UV_THREADPOOL_SIZE: THREADS } as Record<string, string>);
}
