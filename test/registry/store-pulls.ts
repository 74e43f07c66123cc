/** What the suites of stores have in common: in which shapes they push, and how they pull what came. */

import { expect } from "bun:test";
import { digestOf, type PushShape, pullScope } from "../support/registry-client.ts";
import { isThorough } from "../support/thorough.ts";
import type { Registry } from "./harness.ts";

/** In which shapes to push to one store: all where it is first met, one where only the way of its pulls is another. */
export function pushShapes(isFirst: boolean): PushShape[] {
  return isFirst || isThorough ? ["post-put", "patch", "chunked", "single-post"] : ["post-put"];
}

/**
 * Pulls a blob as the admin in each way: by the URL to which a client is sent, whole, from its middle on, and its head.
 * `sentTo` is what URLs at its store begin with, undefined where the bytes come through us.
 */
export async function expectPulled(
  { berth, admin }: Registry,
  repository: string,
  content: Uint8Array,
  sentTo: string | undefined,
): Promise<void> {
  const digest = digestOf(content);
  const url = `${berth.url}/v2/${repository}/blobs/${digest}`;
  const authorization = (await admin.authorize(pullScope(repository))) ?? "";
  const first = await fetch(url, { headers: { authorization }, redirect: "manual" });
  const location = first.headers.get("location");
  expect(first.status).toBe(sentTo === undefined ? 200 : 307);
  if (sentTo === undefined) expect(location).toBeNull();
  else expect(location).toStartWith(sentTo);
  // The store is told no more than the URL says.
  expect(digestOf(await (location === null ? first : await fetch(location)).bytes())).toBe(digest);
  expect(digestOf(await (await fetch(url, { headers: { authorization } })).bytes())).toBe(digest);
  const start = Math.floor(content.byteLength / 2);
  const part = await fetch(url, { headers: { authorization, range: `bytes=${start}-` } });
  expect(part.status).toBe(206);
  expect(Buffer.compare(await part.bytes(), content.subarray(start))).toBe(0);
  const head = await fetch(url, { method: "HEAD", headers: { authorization } });
  expect(head.headers.get("content-length")).toBe(String(content.byteLength));
}
