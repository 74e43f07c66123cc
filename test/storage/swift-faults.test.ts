/**
 * The Swift blob store when something fails: tokens that end in the middle, servers that throttle and connections that
 * break, and a process that dies between any two requests of a push.
 */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { RegistryError } from "../../src/errors.ts";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import type { SwiftStorageOptions } from "../../src/storage/swift/swift.ts";
import { type SwiftCluster, type SwiftProxy, startSwift } from "../support/swift.ts";
import { byTurns } from "../support/thorough.ts";
import { appendTo, blobOf, expectAbsent, expectStored, fillUpload, readSource } from "./contract.ts";
import { makeRandom } from "./random.ts";
import { accountV1, type Container, makeContainer, noAuthorities } from "./swift-store.ts";

setDefaultTimeout(300_000);
const mebibyte = 1024 * 1024;
const later = () => Date.now() + 3_600_000;

let cluster: SwiftCluster;
let proxies: { static: SwiftProxy; nested: SwiftProxy; dynamic: SwiftProxy };
let between: Between;

beforeAll(async () => {
  cluster = await startSwift();
  const [plain, nested, dynamic] = await Promise.all([
    cluster.startProxy(),
    cluster.startProxy({ segmentsMax: 2 }),
    cluster.startProxy({ slo: false }),
  ]);
  proxies = { static: plain, nested, dynamic };
  between = await Between.start();
});
afterAll(async () => {
  between?.stop();
  await cluster?.stop();
});

/** What happens to a request on its way to Swift. */
type Fate =
  | "pass"
  /** It does not arrive. */
  | "lost"
  /** It arrives, and its answer does not. */
  | "unanswered"
  /** Its answer ends after so many bytes. */
  | { readonly cutAfter: number }
  /** Somebody on the way answers for Swift. */
  | { readonly status: number };

/** Stands between the store and Swift, and decides about each request, which a proxy with rules for many could not. */
class Between {
  decide: (request: { readonly method: string; readonly url: string }) => Fate = () => "pass";
  readonly seen: string[] = [];
  #upstream = "";
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<Between> {
    const server = createServer((request, response) => {
      // A connection that broke needs no answer.
      between.#forward(request, response).catch(() => request.socket.destroy());
    });
    const between = new Between(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return between;
  }

  /** A container behind it, at `proxy`. */
  async container(proxy: SwiftProxy): Promise<Container> {
    this.decide = () => "pass";
    this.#upstream = proxy.url;
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    const object_storage_url = `http://127.0.0.1:${address.port}/v1/AUTH_test`;
    const container = await makeContainer(accountV1(cluster.authUrl(proxy), { object_storage_url }));
    this.seen.length = 0;
    return container;
  }

  async #forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "" } = request;
    this.seen.push(`${method} ${url}`);
    const fate = this.decide({ method, url });
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    if (fate === "lost") return void request.socket.destroy();
    if (typeof fate === "object" && "status" in fate) return void response.writeHead(fate.status).end();
    const { host: _, connection: __, ...headers } = request.headers;
    const answer = await fetch(this.#upstream + url, {
      method,
      headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
      decompress: false,
      ...(chunks.length === 0 ? {} : { body: Buffer.concat(chunks) }),
    });
    const bytes = await answer.bytes();
    if (fate === "unanswered") return void request.socket.destroy();
    const told = Object.fromEntries(answer.headers);
    delete told["transfer-encoding"];
    response.writeHead(answer.status, told);
    if (typeof fate === "string") return void response.end(bytes);
    // The length that Swift announced stays, and then the connection ends.
    response.write(bytes.subarray(0, fate.cutAfter), () => request.socket.destroy());
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** Holds a call to failing with one code. */
async function expectFailure(call: Promise<unknown>, code: string): Promise<void> {
  const failure = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(failure).toBeInstanceOf(RegistryError);
  expect(failure).toMatchObject({ code });
}

const isWrite = ({ method }: { readonly method: string }) => method !== "GET" && method !== "HEAD";

describe("a token that ends", () => {
  const random = makeRandom("Swift's tokens");

  test("in the middle of an upload, before its commit and before a pull is renewed unnoticed", async () => {
    const account = accountV1(cluster.authUrl(proxies.static));
    const container = await makeContainer(account);
    const login = { "x-auth-user": account.user, "x-auth-key": account.password };
    const granted = (await fetch(account.authUrl, { headers: login })).headers;
    const ask = () =>
      fetch(`${granted.get("x-storage-url")}`, { headers: { "x-auth-token": `${granted.get("x-auth-token")}` } });
    expect((await ask()).ok).toBe(true);
    const driver = container.open();
    const blob = blobOf(random.bytes(40 * mebibyte));
    const id = crypto.randomUUID();
    const state = await driver.createUpload(id);
    const writer = await driver.openUpload(id, state, 0);
    await writer.write(blob.bytes.subarray(0, 20 * mebibyte));
    await cluster.forgetTokens();
    expect((await ask()).status).toBe(401);
    await writer.write(blob.bytes.subarray(20 * mebibyte));
    const flushed = await writer.flush();
    await cluster.forgetTokens();
    await driver.commitUpload(id, flushed, blob.key, blob.bytes.byteLength);
    await cluster.forgetTokens();
    await expectStored(driver, blob);
  });
});

describe("a server in trouble", () => {
  const random = makeRandom("Swift in trouble");
  const blob = blobOf(random.bytes(18 * mebibyte));

  /** Stores the blob while the first `times` tries of each request meet `fate`. */
  async function storeThrough(
    fate: Fate,
    times: number,
    options: Partial<SwiftStorageOptions> = {},
  ): Promise<Container> {
    const container = await between.container(proxies.static);
    const driver = container.open(options);
    const tries = new Map<string, number>();
    between.decide = ({ method, url }) => {
      const count = (tries.get(method + url) ?? 0) + 1;
      tries.set(method + url, count);
      return count <= times ? fate : "pass";
    };
    try {
      const { id, state } = await fillUpload(driver, blob.bytes, () => 300_000);
      await driver.commitUpload(id, state, blob.key, blob.bytes.byteLength);
    } finally {
      between.decide = () => "pass";
    }
    return container;
  }

  const passing: [string, Fate][] = [
    ["503", { status: 503 }],
    ["429", { status: 429 }],
    ["498, Swift's own rate limit", { status: 498 }],
    ["a request that is lost", "lost"],
    ["an answer that is lost", "unanswered"],
  ];
  test.each(passing)("%s at the first try of every request stores a whole blob", async (_name, fate) => {
    const container = await storeThrough(fate, 1);
    await expectStored(container.open(), blob);
  });

  test("fails when retry_count is used up, and at once when rate limits are not waited for", async () => {
    await expectFailure(storeThrough({ status: 503 }, 2, { retryCount: 1 }), "unavailable");
    await expectFailure(storeThrough({ status: 429 }, 1, { retryOnRateLimit: false }), "unavailable");
    expect(between.seen.filter((line) => line.includes("/uploads/"))).toHaveLength(1);
  });

  test("a full store is told as such", async () => {
    await expectFailure(storeThrough({ status: 507 }, 1), "storage_full");
  });

  test("a pull whose connection breaks goes on where it broke", async () => {
    const container = await storeThrough("pass", 0);
    const driver = container.open();
    let pulls = 0;
    between.seen.length = 0;
    between.decide = ({ method }) => (method === "GET" && ++pulls <= 2 ? { cutAfter: mebibyte } : "pass");
    const source = await driver.source(blob.key, blob.bytes.byteLength);
    if (!source) throw new Error("the blob has no source");
    expect(blobOf(await readSource(source)).key).toBe(blob.key);
    expect(pulls).toBe(3);
  });

  test("a commit that failed can be tried again, here and elsewhere", async () => {
    for (const fate of ["lost", "unanswered"] as const) {
      const container = await between.container(proxies.static);
      const driver = container.open({ retryCount: 1 });
      const { id, state } = await fillUpload(driver, blob.bytes);
      between.decide = ({ url }) => (url.includes("multipart-manifest=put") ? fate : "pass");
      await expectFailure(driver.commitUpload(id, state, blob.key, blob.bytes.byteLength), "unavailable");
      between.decide = () => "pass";
      await container.open().commitUpload(id, state, blob.key, blob.bytes.byteLength);
      await expectStored(driver, blob);
      await driver.cleanUploads(later(), 10);
      await expectStored(driver, blob);
    }
  });

  test("check tells what is wrong", async () => {
    const container = await between.container(proxies.static);
    await container.open().check();
    between.decide = (request) => (isWrite(request) ? { status: 503 } : "pass");
    await expectFailure(container.open().check(), "unavailable");
    between.decide = () => "lost";
    await expectFailure(container.open().check(), "unavailable");
    between.decide = () => "pass";
    await container.open().check();
    await expect(container.open({ container: "not made" }).check()).rejects.toThrow(
      "Could not find container (not made) in Swift storage.",
    );
    const account = { ...accountV1(cluster.authUrl(proxies.static)), password: "planted-secret" };
    const failure = await container
      .open({ account, authorities: noAuthorities })
      .check()
      .catch((error: unknown) => error);
    expect(String(failure)).toContain('answered 401 to Swift\'s user "test:tester"');
    expect(String(failure)).not.toContain("planted-secret");
  });
});

describe.each(["static", "nested", "dynamic"] as const)("a process that dies during a push (%s)", (kind) => {
  const random = makeRandom(`dying while pushing to Swift, ${kind}`);
  const blob = blobOf(random.bytes(19 * mebibyte));
  const root = "datastorage/registry/";

  /** Pushes in two requests, and gives up at the first failure, as a process does that is dead. */
  async function push(container: Container): Promise<void> {
    const driver = container.open({ retryCount: 0, parts: new PartPool(0) });
    const id = crypto.randomUUID();
    const created = await driver.createUpload(id);
    const half = await appendTo(driver, id, created, 0, blob.bytes.subarray(0, 10 * mebibyte));
    const full = await appendTo(driver, id, half, 10 * mebibyte, blob.bytes.subarray(10 * mebibyte));
    await driver.commitUpload(id, full, blob.key, blob.bytes.byteLength);
  }

  /** Nothing but the blob and its parts is left once the clean-up came by; gives whether the blob is there. */
  async function expectClean(container: Container): Promise<boolean> {
    const driver = container.open();
    const isThere = (await driver.find(blob.key)) !== undefined;
    if (isThere) await expectStored(driver, blob);
    else await expectAbsent(driver, blob.key);
    while ((await driver.cleanUploads(later(), 100)) > 0);
    if (isThere) await expectStored(driver, blob);
    const names = await container.names();
    expect(names.filter((name) => name.startsWith(`${root}uploads/`))).toEqual([]);
    if (!isThere) expect(names).toEqual([]);
    await driver.delete(blob.key);
    expect(await container.names()).toEqual([]);
    return isThere;
  }

  test.each(byTurns(["lost", "unanswered"]))(
    "leaves all or nothing, whichever request is the last (%s)",
    async (_name, fateAt) => {
      const container = await between.container(proxies[kind]);
      let survived = 0;
      let isDone = false;
      let last = 0;
      for (; !isDone; last++) {
        let writes = 0;
        between.decide = (request) => {
          if (!isWrite(request)) return writes > last ? "lost" : "pass";
          writes++;
          return writes <= last ? "pass" : writes === last + 1 ? fateAt(last) : "lost";
        };
        const failure = await push(container).then(
          () => undefined,
          (error: unknown) => error,
        );
        isDone = failure === undefined && writes <= last;
        between.decide = () => "pass";
        if (await expectClean(container)) survived++;
        else expect(failure).toBeDefined();
      }
      // One marker, two runs with four segments, the flag and the manifest at least.
      expect(last).toBeGreaterThan(8);
      expect(survived).toBeGreaterThanOrEqual(2);
      expect(survived).toBeLessThan(last);
    },
  );
});
