/**
 * What crashes and hanging requests leave behind: found below `uploads/`, where everything that is not a blob has a name,
 * and judged by the object that the segments may have become.
 */

import type { SwiftClient, SwiftListed } from "./client.ts";
import { isPart, type Parts, partsOf, removeAll } from "./large-object.ts";
import type { SwiftNames } from "./names.ts";

/** Metadata of the commit flag: the key of the object that the segments may be part of. */
export const KEY_HEADER = "x-object-meta-berth-key";

/** Removes up to `limit` uploads that nobody has touched since `beforeMs`. Gives how many. */
export async function cleanStale(
  client: SwiftClient,
  names: SwiftNames,
  beforeMs: number,
  limit: number,
): Promise<number> {
  let removed = 0;
  for await (const { uploadId, objects } of groups(client, names)) {
    if (removed >= limit) break;
    if (objects.some(({ modifiedMs }) => modifiedMs >= beforeMs)) continue;
    if (await cleanOne(client, names, uploadId, objects, beforeMs)) removed++;
  }
  return removed;
}

interface Group {
  readonly uploadId: string;
  readonly objects: readonly SwiftListed[];
}

/** What lies below `uploads/`, upload by upload: their names stand together in a listing. */
async function* groups(client: SwiftClient, names: SwiftNames): AsyncGenerator<Group> {
  let uploadId: string | undefined;
  let objects: SwiftListed[] = [];
  for await (const object of client.list(names.uploads)) {
    const id = names.uploadIdOf(object.name);
    if (id === undefined) continue;
    if (id !== uploadId && uploadId !== undefined) {
      yield { uploadId, objects };
      objects = [];
    }
    uploadId = id;
    objects.push(object);
  }
  if (uploadId !== undefined) yield { uploadId, objects };
}

async function cleanOne(
  client: SwiftClient,
  names: SwiftNames,
  uploadId: string,
  objects: readonly SwiftListed[],
  beforeMs: number,
): Promise<boolean> {
  let flag = objects.some(({ name }) => name === names.commitFlag(uploadId))
    ? await client.head(names.commitFlag(uploadId))
    : undefined;
  if (!flag) {
    // Either a commit that begins now sees this, or its own flag is seen here.
    await client.put(names.deleteFlag(uploadId), "");
    flag = await client.head(names.commitFlag(uploadId));
    if (flag) return false;
  }
  const parts = await committedParts(client, names, flag);
  const unused: string[] = [];
  for await (const { name, modifiedMs } of client.list(names.segments(uploadId))) {
    if (parts && isPart(parts, name)) continue;
    if (modifiedMs >= beforeMs) return false;
    unused.push(name);
  }
  await removeAll(client, unused);
  const upload = names.upload(uploadId);
  await removeAll(
    client,
    objects.map(({ name }) => name).filter((name) => name !== upload),
  );
  await client.remove(upload);
  await client.remove(names.deleteFlag(uploadId));
  return true;
}

/** The parts of the object that a commit flag names. */
async function committedParts(
  client: SwiftClient,
  names: SwiftNames,
  flag: Headers | undefined,
): Promise<Parts | undefined> {
  const key = flag?.get(KEY_HEADER);
  if (!key) return undefined;
  const headers = await client.head(names.object(key));
  return headers && partsOf(client, names.object(key), headers);
}

/** Leaves word that the segments of `uploadId` may be part of the object `key`, and otherwise nobody's. */
export function flagCommit(client: SwiftClient, names: SwiftNames, uploadId: string, key: string): Promise<void> {
  return client.put(names.commitFlag(uploadId), "", { [KEY_HEADER]: key });
}
