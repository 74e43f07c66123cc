/** Ways in which bytes become a blob in S3, and what must be true when one of them was cut short. */

import { expect } from "bun:test";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { appendTo, type blobOf, expectAbsent, expectStored } from "./contract.ts";
import type { Seen } from "./s3-between.ts";
import type { Bucket } from "./s3-store.ts";

const mebibyte = 1024 * 1024;
export type Blob = ReturnType<typeof blobOf>;
export const later = () => Date.now() + 3_600_000;
/** Parts as short as the API allows, so that small blobs have several. */
export const shortParts = { part_size_mib: 5 };
/** No second try: what fails is over, as for a process that is dead. */
export const once = { retry: { triesMax: 1 } };

/** Requests that change what is stored. */
export const isWrite = ({ method }: Seen) => method !== "GET" && method !== "HEAD";

/** What a call failed with. */
export async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Removes what an interrupted push left, and holds the bucket to nothing but the blob; gives whether that is there. */
export async function expectClean(bucket: Bucket, blob: Blob): Promise<boolean> {
  const driver = bucket.open();
  const isThere = (await driver.find(blob.key)) !== undefined;
  if (isThere) await expectStored(driver, blob);
  else await expectAbsent(driver, blob.key);
  while ((await driver.cleanUploads(later(), 100)) > 0);
  expect(await bucket.multiparts()).toEqual([]);
  expect(await bucket.keys()).toEqual(isThere ? [`datastorage/registry/${blob.key}`] : []);
  if (isThere) await expectStored(driver, blob);
  return isThere;
}

/** One way in which bytes become a blob: `record` is told each state that the session's row would have. */
export interface Way {
  readonly sizeBytes: number;
  /** Requests that write, at least. */
  readonly writesMin: number;
  push(driver: StorageDriver, blob: Blob, record: (session: Session) => void): Promise<void>;
}

/** What the session's row would have. */
export interface Session {
  readonly id: string;
  readonly state: string;
  readonly offsetBytes: number;
}

/** Pushes in requests that end at these offsets and at the blob's end. */
export async function pushAt(
  driver: StorageDriver,
  blob: Blob,
  offsets: readonly number[],
  record: (session: Session) => void,
): Promise<void> {
  const id = crypto.randomUUID();
  let state = await driver.createUpload(id);
  let offsetBytes = 0;
  for (const end of [...offsets, blob.bytes.byteLength]) {
    record({ id, state, offsetBytes });
    state = await appendTo(driver, id, state, offsetBytes, blob.bytes.subarray(offsetBytes, end));
    offsetBytes = end;
  }
  record({ id, state, offsetBytes });
  await driver.commitUpload(id, state, blob.key, offsetBytes);
}

/** Pushes in one request that is known to be the last. */
export async function pushLast(driver: StorageDriver, blob: Blob, record: (session: Session) => void): Promise<void> {
  const id = crypto.randomUUID();
  const state = await driver.createUpload(id);
  record({ id, state, offsetBytes: 0 });
  const last = await appendTo(driver, id, state, 0, blob.bytes, undefined, blob.key);
  await driver.commitUpload(id, last, blob.key, blob.bytes.byteLength);
}

export const ways: [string, Way][] = [
  [
    "in two long requests",
    {
      sizeBytes: 17 * mebibyte,
      writesMin: 13,
      push: (driver, blob, record) => pushAt(driver, blob, [11 * mebibyte], record),
    },
  ],
  [
    "in one short request",
    { sizeBytes: 300_000, writesMin: 3, push: (driver, blob, record) => pushAt(driver, blob, [], record) },
  ],
  [
    "in short requests, of which one takes over the other",
    {
      sizeBytes: 3 * mebibyte,
      writesMin: 5,
      push: (driver, blob, record) => pushAt(driver, blob, [mebibyte, 2 * mebibyte], record),
    },
  ],
  ["at once, short", { sizeBytes: 300_000, writesMin: 1, push: pushLast }],
  ["at once, long", { sizeBytes: 12 * mebibyte, writesMin: 5, push: pushLast }],
];
