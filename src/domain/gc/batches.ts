/** Works through rows a few at once, so that one that cannot be worked on never stops the rest. */

import { RegistryError } from "../../errors.ts";

/**
 * What power loss takes back is collected again; the mark of a blob waits for the disk, and with it all that was committed
 * before it.
 */
export const REPEATED = { durable: false } as const;

/** A row that could not be worked on is left alone for so long. */
export const BAD_ROW_MS = 10 * 60_000;

/**
 * Calls `work` with up to `size` ids, sums what it gives, and after a failure with each of them alone; `setAside` gets the ones
 * that still fail. Throws when the database does not answer.
 */
export async function inBatches(
  ids: readonly number[],
  size: number,
  work: (ids: readonly number[]) => Promise<number>,
  setAside: (id: number, error: unknown) => Promise<void>,
): Promise<number> {
  let sum = 0;
  for (let at = 0; at < ids.length; at += size) {
    const batch = ids.slice(at, at + size);
    try {
      sum += await work(batch);
    } catch (error) {
      if (error instanceof RegistryError && error.code === "unavailable") throw error;
      const [only] = batch;
      if (batch.length > 1) sum += await inBatches(batch, 1, work, setAside);
      else if (only !== undefined) await setAside(only, error);
    }
  }
  return sum;
}
