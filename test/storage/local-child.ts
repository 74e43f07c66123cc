/**
 * A process of its own over a local store, for tests that trace it or kill it: `commit ROOT UPLOADID` stores one blob and
 * prints "stored" or the code it was refused with; `loop ROOT SEED` stores blobs until it is killed and prints each key.
 */

import { RegistryError } from "../../src/errors.ts";
import { openLocalStorage } from "../../src/storage/local.ts";
import { blobOf, storeBlob } from "./contract.ts";
import { makeRandom } from "./random.ts";

/** The bytes that `commit` stores. */
export const committedBytes = new Uint8Array(300_000).fill(7);

async function commit(rootPath: string, id: string): Promise<string> {
  const driver = await openLocalStorage({ rootPath });
  const blob = blobOf(committedBytes);
  const writer = await driver.openUpload(id, await driver.createUpload(id), 0);
  try {
    await writer.write(blob.bytes);
    await driver.commitUpload(id, await writer.flush(), blob.key, blob.bytes.byteLength);
    return "stored";
  } catch (error) {
    await writer.abort();
    if (error instanceof RegistryError) return error.code;
    throw error;
  }
}

async function loop(rootPath: string, seed: number): Promise<never> {
  const driver = await openLocalStorage({ rootPath });
  const random = makeRandom("# child", seed);
  const work = async () => {
    for (;;) {
      const blob = blobOf(random.bytes(random.integer(0, 400_000)));
      await storeBlob(driver, blob, () => random.integer(1, 70_000));
      process.stdout.write(`${blob.key}\n`);
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  throw new Error("the loop ended");
}

if (import.meta.main) {
  const [mode, rootPath = "", last = ""] = process.argv.slice(2);
  if (mode === "commit") console.log(await commit(rootPath, last));
  else if (mode === "loop") await loop(rootPath, Number(last));
  else throw new Error(`unknown mode "${mode}": expected commit or loop`);
}
