/**
 * `berth serve` with its blobs at real S3 servers: pushes of every shape, pulls by redirect and through us, clients that hang
 * up, stores that are wrong or away, and CloudFront's URLs.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { generateKeyPairSync, randomBytes, verify } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { digestOf, type PushShape, pullScope, type RegistryClient } from "../support/registry-client.ts";
import { type S3Server, s3At, startS3 } from "../support/s3.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { errorOf, eventually, type Registry, startRegistry } from "./harness.ts";
import { pushShapes } from "./store-pulls.ts";

setDefaultTimeout(180_000);
const startMs = 300_000;
const mebibyte = 1024 * 1024;
const repository = "admin/in-s3";
const longMs = 60_000;

let versitygw: S3Server;
let ceph: S3Server;
beforeAll(async () => {
  [versitygw, ceph] = await Promise.all([startS3("versitygw"), startS3("ceph")]);
}, startMs);
afterAll(async () => {
  await versitygw?.stop();
  await ceph?.stop();
}, startMs);

/** config.yaml as an operator of Quay has it. */
function storage(server: S3Server, bucket: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    DISTRIBUTED_STORAGE_CONFIG: { s3: server.engineConfig(bucket, more) },
    DISTRIBUTED_STORAGE_PREFERENCE: ["s3"],
  };
}

function keyOf(digest: string, root = "datastorage/registry/"): string {
  const hex = digest.slice("sha256:".length);
  return `${root}sha256/${hex.slice(0, 2)}/${hex}`;
}

async function pushed(client: RegistryClient, content: Uint8Array, shape: PushShape = "post-put"): Promise<string> {
  const response = await client.pushBlob(repository, content, { shape, chunkBytes: 3 * mebibyte });
  expect(response.status).toBe(201);
  return digestOf(content);
}

/** Asks for a blob; `init` as for fetch. */
async function ask(registry: Registry, digest: string, init: RequestInit = {}): Promise<Response> {
  const authorization = (await registry.admin.authorize(pullScope(repository))) ?? "";
  const headers = { ...Object.fromEntries(new Headers(init.headers)), authorization };
  return fetch(`${registry.berth.url}/v2/${repository}/blobs/${digest}`, { ...init, headers });
}

describe.each([
  ["versitygw", "by redirect", () => versitygw, {}, true],
  ["Ceph", "by redirect", () => ceph, {}, true],
  ["versitygw", "through us", () => versitygw, { FEATURE_PROXY_STORAGE: true }, false],
  ["Ceph", "through us", () => ceph, { FEATURE_PROXY_STORAGE: true }, false],
] as const)("%s, pulls %s", (_server, _way, serverOf, config, isRedirected) => {
  let server: S3Server;
  let bucket: string;
  let registry: Registry;
  beforeAll(async () => {
    server = serverOf();
    bucket = await server.createBucket();
    registry = await startRegistry({ ...storage(server, bucket), ...config });
  });
  afterAll(() => registry?.stop());

  test.each(pushShapes(isRedirected))("of what was pushed as %s", async (shape) => {
    for (const sizeBytes of [0, 1, 100_000, 20 * mebibyte + 3]) {
      const content = randomBytes(sizeBytes);
      const digest = await pushed(registry.admin, content, shape);
      expect(await server.keys(bucket, keyOf(digest))).toEqual([keyOf(digest)]);

      const first = await ask(registry, digest, { redirect: "manual" });
      expect(first.status).toBe(isRedirected ? 307 : 200);
      expect(first.headers.get("location")?.startsWith(`${server.endpoint}/${bucket}/`) ?? false).toBe(isRedirected);
      await first.body?.cancel();
      const whole = await ask(registry, digest);
      expect(whole.status).toBe(200);
      expect(digestOf(await whole.bytes())).toBe(digest);

      const head = await ask(registry, digest, { method: "HEAD" });
      expect([head.status, head.headers.get("content-length")]).toEqual([200, String(sizeBytes)]);
      expect(head.redirected).toBe(false);
      if (sizeBytes === 0) continue;
      const start = Math.floor(sizeBytes / 2);
      for (const [range, wanted] of [
        [`bytes=${start}-`, content.subarray(start)],
        ["bytes=0-0", content.subarray(0, 1)],
        ["bytes=-1", content.subarray(-1)],
        [`bytes=${Math.floor(start / 2)}-${start}`, content.subarray(Math.floor(start / 2), start + 1)],
      ] as const) {
        const part = await ask(registry, digest, { headers: { range } });
        expect(part.status).toBe(206);
        expect(Buffer.compare(await part.bytes(), wanted)).toBe(0);
      }
    }
    expect(await server.keys(bucket, "datastorage/registry/uploads/")).toEqual([]);
    expect(await server.multiparts(bucket)).toEqual([]);
  });

  test("of an image, also after a restart", async () => {
    const image = await registry.admin.pushImage(repository, "latest", { layers: 2, layerBytes: 9 * mebibyte });
    expect(image.response.status).toBe(201);
    for (const _ of [1, 2]) {
      for (const { digest } of [image.config, ...image.layers]) {
        const blob = await registry.admin.pullBlob(repository, digest);
        expect(digestOf(await blob.bytes())).toBe(digest);
      }
      await registry.berth.restart();
    }
    expect((await fetch(`${registry.berth.url}/health/endtoend`)).status).toBe(200);
  });

  test("an upload with a wrong digest leaves nothing", async () => {
    const before = await server.keys(bucket);
    for (const shape of ["post-put", "chunked", "single-post"] as const) {
      for (const sizeBytes of [1000, 20 * mebibyte]) {
        const refused = await registry.admin.pushBlob(repository, randomBytes(sizeBytes), {
          shape,
          chunkBytes: 7 * mebibyte,
          digest: digestOf(randomBytes(8)),
        });
        expect(refused.status).toBe(400);
      }
    }
    // A client may correct the digest of what it sent in chunks: that waits for the clean-up.
    const after = await server.keys(bucket);
    expect(after.filter((key) => !key.includes("/uploads/"))).toEqual(
      before.filter((key) => !key.includes("/uploads/")),
    );
  });

  test("the log holds neither the secret key nor a signature", () => {
    expect(registry.berth.logs()).not.toContain(server.secretKey);
    expect(registry.berth.logs()).not.toContain("Signature=");
  });
});

describe("a client", () => {
  let proxy: FaultProxy;
  let registry: Registry;
  let digest: string;
  const content = randomBytes(20 * mebibyte);
  beforeAll(async () => {
    proxy = await startFaultProxy({ host: versitygw.host, port: versitygw.port, http: true });
    const server = s3At(versitygw, `http://127.0.0.1:${proxy.port}`);
    const bucket = await versitygw.createBucket();
    registry = await startRegistry({ ...storage(server, bucket), FEATURE_PROXY_STORAGE: true });
    digest = await pushed(registry.admin, content);
  });
  beforeEach(() => {
    proxy.faults.clear();
    proxy.http.faults.length = 0;
  });
  afterAll(async () => {
    await registry?.stop();
    await proxy?.stop();
  });

  test("that hangs up in the middle leaves no connection to the store", async () => {
    const before = proxy.connections().open;
    proxy.faults.bytesPerSecond.toClient = 2 * mebibyte;
    const clients = Array.from({ length: 8 }, () => new AbortController());
    await Promise.all(
      clients.map(async ({ signal }) => {
        const response = await ask(registry, digest, { signal });
        expect(response.status).toBe(200);
        expect((await response.body?.getReader().read())?.done).toBe(false);
      }),
    );
    // Of those that were open before, idle ones may close meanwhile.
    await eventually(async () => proxy.connections().open > before, longMs);
    for (const client of clients) client.abort();
    await eventually(async () => proxy.connections().open <= before, longMs);
    proxy.faults.clear();
    expect(digestOf(await (await ask(registry, digest)).bytes())).toBe(digest);
  });

  test("gets every byte when the store's answer breaks in the middle", async () => {
    const wanted = 3;
    proxy.http.faults.push({
      method: "GET",
      path: /sha256/,
      times: wanted,
      does: { kind: "cut", bytes: 4 * mebibyte },
    });
    const struck = proxy.http.struck().cut ?? 0;
    expect(digestOf(await (await ask(registry, digest)).bytes())).toBe(digest);
    const range = await ask(registry, digest, { headers: { range: "bytes=1000-15000000" } });
    expect(Buffer.compare(await range.bytes(), content.subarray(1000, 15_000_001))).toBe(0);
    expect((proxy.http.struck().cut ?? 0) - struck).toBe(wanted);
  });

  test("sees a broken connection, and no short blob, when the store goes away in the middle", async () => {
    proxy.faults.bytesPerSecond.toClient = 4 * mebibyte;
    const response = await ask(registry, digest);
    const reader = response.body?.getReader();
    expect((await reader?.read())?.done).toBe(false);
    proxy.faults.refuse = true;
    proxy.resetAll();
    const rest = async () => {
      while ((await reader?.read())?.done === false);
    };
    await expect(rest()).rejects.toThrow();
  });

  test("that pushes is told 503 while the store is away, and goes on when it is back", async () => {
    const more = randomBytes(9 * mebibyte);
    proxy.faults.refuse = true;
    proxy.resetAll();
    const refused = await registry.admin.pushBlob(repository, more);
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).not.toBeNull();
    expect((await errorOf(refused)).code).toBe("UNAVAILABLE");
    await eventually(async () => (await fetch(`${registry.berth.url}/health/endtoend`)).status === 503, longMs);
    expect((await fetch(`${registry.berth.url}/health/instance`)).status).toBe(200);
    proxy.faults.refuse = false;
    await eventually(async () => (await fetch(`${registry.berth.url}/health/endtoend`)).status === 200, longMs);
    expect(await pushed(registry.admin, more)).toBe(digestOf(more));
  });
});

test("clients are sent to the store's public address", async () => {
  const bucket = await versitygw.createBucket();
  const publicUrl = `http://localhost:${versitygw.port}`;
  const registry = await startRegistry(storage(versitygw, bucket, { public_endpoint_url: publicUrl }));
  try {
    const content = randomBytes(1000);
    const digest = await pushed(registry.admin, content);
    const first = await ask(registry, digest, { redirect: "manual" });
    expect(first.headers.get("location")).toStartWith(`${publicUrl}/${bucket}/`);
    const address = first.headers.get("location") ?? "";
    expect(digestOf(await (await fetch(address)).bytes())).toBe(digest);
    // Good for one object, one method and one address.
    expect((await fetch(address, { method: "HEAD" })).status).toBe(403);
    expect((await fetch(address.replace("localhost", "127.0.0.1"))).status).toBe(403);
  } finally {
    await registry.stop();
  }
});

describe("storage_path", () => {
  test.each([
    ["/", ""],
    ["", ""],
    ["/a/b", "a/b/"],
    ["a/b/", "a/b/"],
    ["with space+/ü", "with space+/ü/"],
  ])("%p", async (storage_path, root) => {
    const bucket = await versitygw.createBucket();
    const registry = await startRegistry(storage(versitygw, bucket, { storage_path }));
    try {
      for (const sizeBytes of [1000, 9 * mebibyte]) {
        const digest = await pushed(registry.admin, randomBytes(sizeBytes), "chunked");
        expect(await versitygw.keys(bucket, keyOf(digest, root))).toEqual([keyOf(digest, root)]);
        expect(digestOf(await (await ask(registry, digest)).bytes())).toBe(digest);
      }
      expect((await fetch(`${registry.berth.url}/health/endtoend`)).status).toBe(200);
    } finally {
      await registry.stop();
    }
  });
});

describe("a store that is wrong from the start", () => {
  const secret = "planted-secret-of-tests";
  const wrong: [string, string, () => S3Server, Record<string, unknown>, string][] = [
    ["bucket", "versitygw", () => versitygw, { s3_bucket: "no-such-bucket" }, 'has no bucket "no-such-bucket"'],
    ["bucket", "Ceph", () => ceph, { bucket_name: "no-such-bucket" }, 'has no bucket "no-such-bucket"'],
    ["secret", "versitygw", () => versitygw, { s3_secret_key: secret }, "does not know the access key of bucket"],
    ["secret", "Ceph", () => ceph, { secret_key: secret }, "does not know the access key of bucket"],
    ["access key", "versitygw", () => versitygw, { s3_access_key: "AKNOBODY" }, "the provided access key"],
    ["access key", "Ceph", () => ceph, { access_key: "AKNOBODY" }, "does not know the access key"],
    ["port", "versitygw", () => versitygw, { port: 1 }, "S3Storage failed a HEAD: ECONNREFUSED"],
  ];
  test.each(wrong)(
    "its %s (%s): the server starts, says so and answers 503",
    async (_what, _name, serverOf, more, says) => {
      const server = serverOf();
      const bucket = await server.createBucket();
      const registry = await startRegistry(storage(server, bucket, more));
      try {
        await eventually(async () => registry.berth.logs().includes("a store cannot be used"), longMs);
        expect(registry.berth.logs().replaceAll('\\"', '"')).toContain(says);
        const health = await fetch(`${registry.berth.url}/health/endtoend`);
        expect(health.status).toBe(503);
        expect(await health.json()).toMatchObject({ data: { services: { storage: false, database: true } } });
        const refused = await registry.admin.pushBlob(repository, randomBytes(1000));
        expect(refused.status).toBe(503);
        const text = await refused.text();
        for (const shown of [text, registry.berth.logs()]) {
          expect(shown).not.toContain(secret);
          expect(shown).not.toContain(server.secretKey);
        }
      } finally {
        await registry.stop();
      }
    },
  );
});

test("CloudFront: clients are sent to the distribution, with a URL that its key has signed", async () => {
  const dir = makeTempDir("cloudfront");
  const bucket = await versitygw.createBucket();
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const keyFile = join(dir.path, "cloudfront.pem");
  writeFileSync(keyFile, privateKey.export({ type: "pkcs1", format: "pem" }));
  const [, args] = versitygw.engineConfig(bucket, {
    cloudfront_distribution_domain: "cdn.example.com",
    cloudfront_key_id: "K2JCJMDEHXQW5F",
    cloudfront_privatekey_filename: keyFile,
    cloudfront_distribution_org_overrides: { admin: "admins.example.com" },
  });
  const registry = await startRegistry({
    DISTRIBUTED_STORAGE_CONFIG: { cdn: ["CloudFrontedS3Storage", args] },
    DISTRIBUTED_STORAGE_PREFERENCE: ["cdn"],
  });
  try {
    const digest = await pushed(registry.admin, randomBytes(1000));
    expect(await versitygw.keys(bucket)).toEqual([keyOf(digest)]);
    const first = await ask(registry, digest, { redirect: "manual" });
    expect(first.status).toBe(307);
    const { origin, pathname, searchParams } = new URL(first.headers.get("location") ?? "");
    expect(origin + pathname).toBe(`https://admins.example.com/${keyOf(digest, "")}`);
    const endSeconds = Number(searchParams.get("Expires"));
    expect(Math.abs(endSeconds - Date.now() / 1000 - 600)).toBeLessThan(60);
    const policy = `{"Statement":[{"Resource":"${origin}${pathname}","Condition":{"DateLessThan":{"AWS:EpochTime":${endSeconds}}}}]}`;
    const signature = (searchParams.get("Signature") ?? "")
      .replaceAll("-", "+")
      .replaceAll("_", "=")
      .replaceAll("~", "/");
    expect(verify("RSA-SHA1", Buffer.from(policy), publicKey, Buffer.from(signature, "base64"))).toBe(true);
  } finally {
    await registry.stop();
    dir.remove();
  }
});
