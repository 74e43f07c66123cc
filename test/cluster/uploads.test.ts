/**
 * One upload on several instances, on a store where they take turns and on one that fences writers: it goes on elsewhere chunk
 * by chunk, when its instance dies, and when its instance only sleeps and wakes up too late.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { password } from "../registry/harness.ts";
import { fixedBytes } from "../support/content.ts";
import { digestOf, pushScope, uploadLocation, withDigest } from "../support/registry-client.ts";
import { at, type Cluster, type Instance, patienceMs, startCluster, until } from "./instances.ts";
import { makeStore, type SharedStore, type StoreName, stopStores } from "./stores.ts";

setDefaultTimeout(3 * patienceMs);
const repository = "alice/app";
const scope = pushScope(repository);
/** So often bytes come, so that whoever wants the upload meanwhile sees that it is alive. */
const trickleMs = 200;

afterAll(stopStores, patienceMs);

/** A session of alice's, as each instance is asked for it. */
interface Upload {
  readonly path: string;
  readonly authorization: string;
}

interface Answer {
  /** 0: the connection was cut. */
  readonly status: number;
  readonly range: string | null;
}

async function begin(instance: Instance): Promise<Upload> {
  const authorization = await instance.bearer("alice", password, scope);
  const response = await fetch(`${instance.url}/v2/${repository}/blobs/uploads/`, {
    method: "POST",
    headers: { authorization },
  });
  expect(response.status).toBe(202);
  const { pathname, search } = new URL(uploadLocation(response));
  return { path: pathname + search, authorization };
}

async function answerOf(sent: Promise<Response>): Promise<Answer> {
  try {
    const response = await sent;
    await response.arrayBuffer();
    return { status: response.status, range: response.headers.get("range") };
  } catch {
    return { status: 0, range: null };
  }
}

function append(
  instance: Instance,
  { path, authorization }: Upload,
  content: Uint8Array<ArrayBuffer>,
  startBytes?: number,
): Promise<Answer> {
  const range = startBytes === undefined ? {} : { "content-range": `${startBytes}-${startBytes + content.length - 1}` };
  const headers = { authorization, "content-type": "application/octet-stream", ...range };
  return answerOf(fetch(instance.url + path, { method: "PATCH", headers, body: content }));
}

function finish(
  instance: Instance,
  { path, authorization }: Upload,
  digest: string,
  content?: Uint8Array<ArrayBuffer>,
): Promise<Answer> {
  const headers = { authorization, "content-type": "application/octet-stream" };
  const body = content === undefined ? {} : { body: content };
  return answerOf(fetch(withDigest(instance.url + path, digest), { method: "PUT", headers, ...body }));
}

/** What GET says of a session. */
function standing(instance: Instance, { path, authorization }: Upload): Promise<Answer> {
  return answerOf(fetch(instance.url + path, { headers: { authorization } }));
}

/** A request whose bytes come as the test says. */
function stream(instance: Instance, method: "PATCH" | "PUT", path: string, headers: Record<string, string>) {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(given) {
      controller = given;
    },
  });
  const type = { "content-type": "application/octet-stream" };
  const answer = answerOf(fetch(instance.url + path, { method, headers: { ...type, ...headers }, body }));
  return {
    write: (bytes: Uint8Array) => controller?.enqueue(bytes),
    end: () => controller?.close(),
    answer,
  };
}

/** A request of which half has come, and is in the store as far as that shows. */
async function halfSent(
  cluster: Cluster,
  store: SharedStore,
  request: ReturnType<typeof stream>,
  content: Uint8Array,
): Promise<{ answer: Promise<Answer>; rest: () => void }> {
  const before = await store.heldSoFar(cluster);
  const half = Math.floor(content.length / 2);
  request.write(content.subarray(0, half));
  await until("some of it is in the store", async () => (await store.heldSoFar(cluster)) > before);
  return {
    answer: request.answer,
    rest() {
      request.write(content.subarray(half));
      request.end();
    },
  };
}

/** Pulls a blob through each of these instances and compares each byte. */
async function verify(instances: readonly Instance[], content: Uint8Array): Promise<void> {
  const digest = digestOf(content);
  for (const instance of instances) {
    const response = await instance.client("alice").pullBlob(repository, digest);
    expect(response.status).toBe(200);
    expect(digestOf(await response.bytes())).toBe(digest);
  }
}

describe.each<StoreName>(["a folder", "a bucket"])("on %s", (name) => {
  let store: SharedStore;
  let cluster: Cluster;
  let frozen: number | undefined;

  beforeAll(async () => {
    store = await makeStore(name);
    cluster = await startCluster({ config: store.config });
    await cluster.user("alice");
  }, 2 * patienceMs);
  afterEach(() => thaw());
  afterAll(async () => {
    thaw();
    await cluster?.stop();
  }, patienceMs);

  /** The instance is there and does nothing, as on a machine whose hypervisor pauses it. */
  function freeze(): void {
    frozen = at(cluster, 0).berth.pid;
    process.kill(frozen, "SIGSTOP");
  }
  function thaw(): void {
    if (frozen !== undefined) process.kill(frozen, "SIGCONT");
    frozen = undefined;
  }

  /** A chunk that the first instance gets as the test gives it. */
  const patch = ({ path, authorization }: Upload, startBytes: number, endBytes: number) =>
    stream(at(cluster, 0), "PATCH", path, { authorization, "content-range": `${startBytes}-${endBytes - 1}` });

  test("chunks of all sizes go to one instance after the other", async () => {
    const sizes = [1, 700_000, 5_000_000, 9_000_000, 64 * 1024, 1, 6_000_000, 300_000];
    const content = fixedBytes(
      sizes.reduce((sum, size) => sum + size, 0),
      11,
    );
    const upload = await begin(at(cluster, 0));
    let offset = 0;
    for (const [index, size] of sizes.entries()) {
      const chunk = content.slice(offset, offset + size);
      const instance = at(cluster, (index + 1) % 2);
      // Each second one with a range.
      const answer = await append(instance, upload, chunk, index % 2 === 0 ? offset : undefined);
      offset += size;
      expect(answer).toEqual({ status: 202, range: `0-${offset - 1}` });
      expect(await standing(at(cluster, index % 2), upload)).toEqual({ status: 204, range: `0-${offset - 1}` });
    }
    expect((await finish(at(cluster, 0), upload, digestOf(content))).status).toBe(201);
    await verify(cluster.instances, content);
  });

  test("the last bytes may come with the digest, to the other instance", async () => {
    for (const last of [1, 6_000_000]) {
      const content = fixedBytes(3_000_000 + last, last);
      const upload = await begin(at(cluster, 1));
      expect((await append(at(cluster, 0), upload, content.slice(0, 3_000_000))).status).toBe(202);
      expect((await finish(at(cluster, 1), upload, digestOf(content), content.slice(3_000_000))).status).toBe(201);
      await verify(cluster.instances, content);
    }
  });

  test("of two that append at once one wins, and the other is told where to go on", async () => {
    const chunkBytes = 100_000;
    const rounds = 8;
    const content = fixedBytes(chunkBytes * rounds, 12);
    const upload = await begin(at(cluster, 0));
    for (let round = 0; round < rounds; round++) {
      const start = round * chunkBytes;
      const chunk = content.slice(start, start + chunkBytes);
      const answers = await Promise.all(cluster.instances.map((instance) => append(instance, upload, chunk, start)));
      expect(answers.map(({ status }) => status).sort()).toEqual([202, 416]);
      const lost = answers.find(({ status }) => status === 416);
      // As it stood, or as it stands.
      const ranges = [start, start + chunkBytes].map((offset) => `0-${Math.max(0, offset - 1)}`);
      expect(ranges).toContain(lost?.range ?? "none");
      expect(await standing(at(cluster, round % 2), upload)).toEqual({
        status: 204,
        range: `0-${start + chunkBytes - 1}`,
      });
    }
    expect((await finish(at(cluster, 1), upload, digestOf(content))).status).toBe(201);
    await verify(cluster.instances, content);
  });

  // A store that fences writers lets both write, and the first that is done has it.
  if (name === "a folder")
    test("who comes while bytes flow elsewhere takes nothing away", async () => {
      const content = fixedBytes(300_000, 13);
      const upload = await begin(at(cluster, 0));
      expect((await append(at(cluster, 1), upload, content.slice(0, 100_000))).status).toBe(202);
      const slow = patch(upload, 100_000, content.length);
      const before = await store.heldSoFar(cluster);
      let sent = 100_000;
      const more = () => {
        slow.write(content.subarray(sent, sent + 1000));
        sent += 1000;
      };
      more();
      const trickle = setInterval(more, trickleMs);
      try {
        await until("some of it is in the store", async () => (await store.heldSoFar(cluster)) > before);
        const answer = await append(at(cluster, 1), upload, content.slice(100_000), 100_000);
        expect(answer).toEqual({ status: 416, range: "0-99999" });
      } finally {
        clearInterval(trickle);
      }
      slow.write(content.subarray(sent));
      slow.end();
      expect(await slow.answer).toEqual({ status: 202, range: "0-299999" });
      expect((await finish(at(cluster, 1), upload, digestOf(content))).status).toBe(201);
      await verify(cluster.instances, content);
    });

  test("an instance that sleeps in the middle of requests wakes up too late, and does no harm", async () => {
    const other = at(cluster, 1);
    const size = store.visibleBytes;
    const [appended, finished, put] = [fixedBytes(100_000 + size, 14), fixedBytes(size, 15), fixedBytes(size, 16)];
    const uploads = { appended: await begin(other), finished: await begin(other), put: await begin(other) };
    expect((await append(other, uploads.appended, appended.slice(0, 100_000), 0)).status).toBe(202);
    const asleep = {
      appended: await halfSent(
        cluster,
        store,
        patch(uploads.appended, 100_000, appended.length),
        appended.subarray(100_000),
      ),
      finished: await halfSent(cluster, store, patch(uploads.finished, 0, size), finished),
      put: await halfSent(
        cluster,
        store,
        stream(at(cluster, 0), "PUT", withDigest(uploads.put.path, digestOf(put)), {
          authorization: uploads.put.authorization,
        }),
        put,
      ),
    };
    freeze();
    expect(await standing(other, uploads.appended)).toEqual({ status: 204, range: "0-99999" });
    await Promise.all([
      (async () => {
        const answer = await append(other, uploads.appended, appended.slice(100_000, 150_000), 100_000);
        expect(answer).toEqual({ status: 202, range: "0-149999" });
      })(),
      (async () => {
        expect((await append(other, uploads.finished, finished, 0)).status).toBe(202);
        expect((await finish(other, uploads.finished, digestOf(finished))).status).toBe(201);
      })(),
      (async () => expect((await finish(other, uploads.put, digestOf(put), put)).status).toBe(201))(),
    ]);
    for (const { rest } of Object.values(asleep)) rest();
    thaw();
    expect((await asleep.appended.answer).status).toBe(416);
    expect([404, 416]).toContain((await asleep.finished.answer).status);
    expect([201, 404, 416]).toContain((await asleep.put.answer).status);
    expect(await standing(at(cluster, 0), uploads.appended)).toEqual({ status: 204, range: "0-149999" });
    expect((await append(at(cluster, 0), uploads.appended, appended.slice(150_000), 150_000)).status).toBe(202);
    expect((await finish(other, uploads.appended, digestOf(appended))).status).toBe(201);
    for (const content of [appended, finished, put]) await verify(cluster.instances, content);
  });

  test("the other goes on when an instance is killed in the middle of a chunk", async () => {
    const content = fixedBytes(100_000 + store.visibleBytes, 17);
    const upload = await begin(at(cluster, 0));
    expect((await append(at(cluster, 0), upload, content.slice(0, 100_000), 0)).status).toBe(202);
    const { answer } = await halfSent(
      cluster,
      store,
      patch(upload, 100_000, content.length),
      content.subarray(100_000),
    );
    await at(cluster, 0).berth.kill();
    expect((await answer).status).toBe(0);
    const other = at(cluster, 1);
    expect(await standing(other, upload)).toEqual({ status: 204, range: "0-99999" });
    expect((await append(other, upload, content.slice(100_000), 100_000)).status).toBe(202);
    expect((await finish(other, upload, digestOf(content))).status).toBe(201);
    await verify([other], content);
    await at(cluster, 0).berth.restart();
    await verify(cluster.instances, content);
  });
});
