/** Several real stores on disk, of which some break: where blobs are read from, and where new ones go. */

import { afterEach, expect, test } from "bun:test";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { makeTempDir, type TempDir } from "../../test/support/temp-dir.ts";
import { digestOf } from "../oci/digest.ts";
import type { ObjectSource, StorageDriver } from "./driver.ts";
import { openLocalStorage } from "./local.ts";
import { blobKey } from "./paths.ts";
import { type BlobStore, type BlobStoreOptions, createBlobStore } from "./placement.ts";

const quiet = () => undefined;
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };
const content = crypto.getRandomValues(new Uint8Array(300_000));
const digest = digestOf(content);
const key = blobKey(digest);
const timeoutMs = 120_000;
const opened: { store: BlobStore; dir: TempDir }[] = [];

afterEach(() => {
  for (const { store, dir } of opened.splice(0)) {
    store.close();
    dir.remove();
  }
});

/** How a store serves: from disk, or as a stream that breaks or ends after so many bytes. */
interface Serving {
  readonly breaksAfter?: number;
  readonly endsAfter?: number;
  readonly isStream?: boolean;
  readonly url?: string;
}

async function makeStores(servings: Record<string, Serving>, options: Partial<BlobStoreOptions> = {}) {
  const dir = makeTempDir("placement");
  const opens: string[] = [];
  const drivers = new Map<string, StorageDriver>();
  for (const [name, serving] of Object.entries(servings)) {
    const driver = await openLocalStorage({ rootPath: join(dir.path, name) });
    const path = join(dir.path, name, key);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    drivers.set(
      name,
      serve(driver, serving, () => opens.push(name)),
    );
  }
  const preference = Object.keys(servings);
  const store = createBlobStore(drivers, { preference, log, ...options });
  opened.push({ store, dir });
  const blob = { digest, sizeBytes: content.length, locations: preference };
  return { store, dir, opens, blob };
}

function serve(driver: StorageDriver, serving: Serving, onOpen: () => void): StorageDriver {
  const { url } = serving;
  const isStream = serving.isStream || serving.breaksAfter !== undefined || serving.endsAfter !== undefined;
  return new Proxy(driver, {
    get(target, name) {
      if (name === "clientUrl") return url && (async () => url);
      if (name === "source" && isStream) return (at: string) => streamOf(target, at, serving, onOpen);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

async function streamOf(
  driver: StorageDriver,
  at: string,
  { breaksAfter = Number.POSITIVE_INFINITY, endsAfter = Number.POSITIVE_INFINITY }: Serving,
  onOpen: () => void,
): Promise<ObjectSource | undefined> {
  const file = await driver.source(at);
  if (file?.kind !== "file") return undefined;
  return {
    kind: "stream",
    sizeBytes: file.sizeBytes,
    async open(range) {
      onOpen();
      const { start, end } = range ?? { start: 0, end: file.sizeBytes - 1 };
      let next = start;
      return new ReadableStream<Uint8Array>(
        {
          pull(controller) {
            if (next >= breaksAfter) throw new Error("the connection broke");
            if (next > end || next >= endsAfter) return controller.close();
            const until = Math.min(next + 10_000, end + 1, breaksAfter, endsAfter);
            controller.enqueue(content.slice(next, until));
            next = until;
          },
        },
        { highWaterMark: 0 },
      );
    },
  };
}

async function read(source: ObjectSource | undefined, range?: { start: number; end: number }): Promise<Uint8Array> {
  if (!source) throw new Error("there is no source");
  if (source.kind === "file") return Bun.file(source.path).bytes();
  return new Response(await source.open(range)).bytes();
}

async function until(probe: () => boolean): Promise<void> {
  while (!probe()) await Bun.sleep(20);
}

test("the first of the preference that has the blob is read from", async () => {
  const { store, blob, dir } = await makeStores({ us: {}, eu: {} });
  const source = await store.source(blob);
  expect(source).toMatchObject({ kind: "file", path: join(dir.path, "us", key) });
  const other = await store.source({ ...blob, locations: ["eu"] });
  expect(other).toMatchObject({ kind: "file", path: join(dir.path, "eu", key) });
  expect(await store.source({ ...blob, locations: ["gone"] })).toBeUndefined();
});

test("a blob that is missing, cut or in a store that is away is read from the next", async () => {
  const { store, blob, dir } = await makeStores({ us: {}, eu: {} });
  writeFileSync(join(dir.path, "us", key), "cut");
  expect(await read(await store.source(blob))).toEqual(content);
  rmSync(join(dir.path, "us", key));
  expect(await read(await store.source(blob))).toEqual(content);
  rmSync(join(dir.path, "us"), { recursive: true });
  expect(await read(await store.source(blob))).toEqual(content);
});

const failing: [string, Serving][] = [
  ["that breaks before the first byte", { breaksAfter: 0 }],
  ["that breaks in the middle", { breaksAfter: 123_456 }],
  ["whose object is empty", { endsAfter: 0 }],
  ["whose object ends early", { endsAfter: 123_456 }],
];
for (const [name, serving] of failing) {
  test(`a stream ${name} goes on from the next store`, async () => {
    const { store, blob, opens } = await makeStores({ us: serving, eu: { isStream: true } });
    expect(await read(await store.source(blob))).toEqual(content);
    expect(opens).toEqual(["us", "eu"]);
  });
}

test("a range is that range, also over a break", async () => {
  const { store, blob, opens } = await makeStores({ us: { breaksAfter: 100_000 }, eu: {} });
  const range = { start: 90_001, end: 200_000 };
  expect(await read(await store.source(blob), range)).toEqual(content.slice(range.start, range.end + 1));
  expect(opens).toEqual(["us"]);
});

test("when every store breaks, the reader hears of it", async () => {
  const { store, blob } = await makeStores({ us: { breaksAfter: 0 }, eu: { breaksAfter: 0 } });
  const refused = await read(await store.source(blob)).catch((error: { code: string }) => error.code);
  expect(refused).toBe("unavailable");
});

test("leaving a stream in the middle blames nobody", async () => {
  const { store, blob, opens } = await makeStores({ us: { isStream: true }, eu: { isStream: true } });
  const source = await store.source(blob);
  if (source?.kind !== "stream") throw new Error("not a stream");
  const reader = (await source.open()).getReader();
  await reader.read();
  await reader.cancel();
  expect(store.isUp("us")).toBe(true);
  expect(opens).toEqual(["us"]);
});

test("clients are sent to the nearest store that works", async () => {
  const { store, blob, dir } = await makeStores({
    us: { url: "https://us/", breaksAfter: 0 },
    eu: { url: "https://eu/" },
  });
  const request = { method: "GET" } as const;
  expect(await store.clientUrl(blob, request)).toBe("https://us/");
  // Its probes fail too, so that it is not back before this test has looked.
  rmSync(join(dir.path, "us", "uploads"), { recursive: true });
  await read(await store.source(blob));
  expect(store.isUp("us")).toBe(false);
  expect(await store.clientUrl(blob, request)).toBe("https://eu/");
  // Where the only store is away, its URL is still better than none.
  expect(await store.clientUrl({ ...blob, locations: ["us"] }, request)).toBe("https://us/");
});

test(
  "pushes move to the next store and back",
  async () => {
    const { store, dir } = await makeStores({ us: {}, eu: {} }, { preference: ["us"], spare: ["us", "eu"] });
    expect(store.writable().location).toBe("us");
    const path = join(dir.path, "us");
    renameSync(path, `${path}.lost`);
    const refused = await store
      .driver("us")
      .createUpload(crypto.randomUUID())
      .catch((error: { code: string }) => error.code);
    expect(refused).toBe("unavailable");
    expect(store.writable().location).toBe("eu");
    expect(await store.check().catch((error: { code: string }) => error.code)).toBe("unavailable");
    renameSync(`${path}.lost`, path);
    await until(() => store.isUp("us"));
    expect(store.writable().location).toBe("us");
    await store.check();
  },
  timeoutMs,
);

test("pushes wait for the preferred store where nothing would bring them home", async () => {
  const { store, dir } = await makeStores({ us: {}, eu: {} });
  rmSync(join(dir.path, "us"), { recursive: true });
  await store
    .driver("us")
    .createUpload(crypto.randomUUID())
    .catch(() => undefined);
  expect(store.isUp("us")).toBe(false);
  expect(store.writable().location).toBe("us");
});

test(
  "an upload in a store that stays away is refused at once, with a word about it",
  async () => {
    const { store, dir } = await makeStores({ us: {}, eu: {} }, { spare: ["eu"] });
    const driver = store.driver("us");
    const id = crypto.randomUUID();
    const state = await driver.createUpload(id);
    rmSync(join(dir.path, "us"), { recursive: true });
    let message = "";
    while (!message.includes("start the upload again")) {
      await driver.openUpload(id, state, 0).catch((error: Error) => {
        message = error.message;
      });
      await Bun.sleep(20);
    }
    expect(message).toContain('"us"');
  },
  timeoutMs,
);

test("health looks at the preferred store, or at all when it is told to", async () => {
  for (const checksAll of [false, true]) {
    const { store, dir } = await makeStores({ us: {}, eu: {} }, { checksAll });
    rmSync(join(dir.path, "eu"), { recursive: true });
    await store
      .driver("eu")
      .createUpload(crypto.randomUUID())
      .catch(() => undefined);
    const answer = await store.check().then(
      () => "ok",
      (error: { code: string }) => error.code,
    );
    expect(answer).toBe(checksAll ? "unavailable" : "ok");
  }
});
