/**
 * What the local blob store asks of the file system: directories that survive power loss, and the one place that turns an
 * errno into a `RegistryError`. Nothing here knows of blobs or uploads.
 */

import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { RegistryError } from "../errors.ts";

/** Nobody but the registry's own account looks into the store. */
export const directoryMode = 0o700;
export const fileMode = 0o600;

/** The errno name of a file system error, undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** True when the path, or a directory on the way to it, is not there. */
export function isAbsent(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR";
}

/**
 * The error that callers see for a failed file operation: `storage_full` when the disk or a quota is full, else
 * `unavailable`. `attempt` completes "… failed" and must hold no path: the cause, which only the log shows, has it.
 */
export function storageError(cause: unknown, attempt: string): RegistryError {
  if (cause instanceof RegistryError) return cause;
  const errno = errnoOf(cause);
  if (errno === "ENOSPC" || errno === "EDQUOT") {
    return new RegistryError("storage_full", { message: `${attempt} failed: the blob store is full`, cause });
  }
  return new RegistryError("unavailable", {
    message: `${attempt} failed: ${errno ?? "the blob store is broken"}`,
    cause,
  });
}

/** Makes the names in a directory (new, renamed, removed) durable against power loss. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Makes a directory and its missing parents, each fsynced into the one above it. */
export async function makeDirectory(path: string): Promise<void> {
  const parent = dirname(path);
  try {
    await mkdir(path, { mode: directoryMode });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" && parent !== path) {
      await makeDirectory(parent);
      return makeDirectory(path);
    }
    // One that is there may have been made a moment ago by a process that has not come to its fsync yet.
    if (errno !== "EEXIST") throw error;
  }
  await syncDirectory(parent);
}
