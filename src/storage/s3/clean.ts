/**
 * What unfinished uploads left behind: objects below `uploads/` and multipart uploads that nobody completed. Both are found
 * in listings, which a store keeps short, because a finished upload leaves neither.
 */

import { inLanes } from "../../lib/lanes.ts";
import { removeObject, type S3Client } from "./client.ts";
import { abortMultipart } from "./multipart.ts";
import { childrenOf, textOf } from "./xml.ts";

/** Removals under way at once. */
const REMOVALS_MAX = 8;

export interface CleanOptions {
  readonly client: S3Client;
  /** Of all keys of the engine; empty, or with a slash at its end. */
  readonly root: string;
  /** Whether a key below the root is one of ours: a bucket may be shared. */
  readonly isOurs: (key: string) => boolean;
  /** Names below `uploads/` that stay. */
  readonly keeps: (name: string) => boolean;
}

/** Removes up to `limit` objects and multipart uploads that were begun before `beforeMs`. Gives how many. */
export async function cleanStale(options: CleanOptions, beforeMs: number, limit: number): Promise<number> {
  let removed = 0;
  for await (const stale of eachStale(options, beforeMs, limit)) {
    await inLanes(stale, REMOVALS_MAX, (remove) => remove());
    removed += stale.length;
    if (removed >= limit) break;
  }
  return removed;
}

type Remove = () => Promise<void>;

/** Page by page what is to be removed, at most `limit` of it. */
async function* eachStale(options: CleanOptions, beforeMs: number, limit: number): AsyncGenerator<Remove[]> {
  let left = limit;
  for (const pages of [staleObjects(options, beforeMs), staleMultiparts(options, beforeMs)]) {
    for await (const page of pages) {
      const taken = page.slice(0, left);
      left -= taken.length;
      if (taken.length > 0) yield taken;
      if (left <= 0) return;
    }
  }
}

async function* staleObjects({ client, root, keeps }: CleanOptions, beforeMs: number): AsyncGenerator<Remove[]> {
  const prefix = `${root}uploads/`;
  let token: string | undefined;
  do {
    const next = token === undefined ? {} : { "continuation-token": token };
    const page = await client.callXml({ method: "GET", query: { "list-type": "2", prefix, ...next } });
    const stale = childrenOf(page, "Contents").flatMap((object): Remove[] => {
      const key = textOf(object, "Key");
      const isStale = isBefore(textOf(object, "LastModified"), beforeMs);
      if (key === undefined || !isStale || !key.startsWith(prefix) || keeps(key.slice(prefix.length))) return [];
      return [() => removeObject(client, key)];
    });
    yield stale;
    token = textOf(page, "IsTruncated") === "true" ? textOf(page, "NextContinuationToken") : undefined;
  } while (token !== undefined && token !== "");
}

async function* staleMultiparts({ client, root, isOurs }: CleanOptions, beforeMs: number): AsyncGenerator<Remove[]> {
  let marker: Record<string, string> = {};
  for (;;) {
    const query = { uploads: "", ...(root === "" ? {} : { prefix: root }), ...marker };
    const page = await client.callXml({ method: "GET", query });
    yield childrenOf(page, "Upload").flatMap((upload): Remove[] => {
      const [key, id] = [textOf(upload, "Key"), textOf(upload, "UploadId")];
      if (key === undefined || id === undefined || !isBefore(textOf(upload, "Initiated"), beforeMs)) return [];
      if (!key.startsWith(root) || !isOurs(key.slice(root.length))) return [];
      return [() => abortMultipart(client, { key, id })];
    });
    const [nextKey, nextId] = [textOf(page, "NextKeyMarker"), textOf(page, "NextUploadIdMarker")];
    if (
      textOf(page, "IsTruncated") !== "true" ||
      !nextKey ||
      (nextKey === marker["key-marker"] && nextId === marker["upload-id-marker"])
    )
      return;
    marker = { "key-marker": nextKey, ...(nextId ? { "upload-id-marker": nextId } : {}) };
  }
}

/** False for a time that cannot be read: what may be young stays. */
function isBefore(time: string | undefined, beforeMs: number): boolean {
  return time !== undefined && Date.parse(time) < beforeMs;
}
