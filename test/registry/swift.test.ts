/** `berth serve` with its blobs in a real Swift: pushes of every shape, pulls by redirect and through us, and a restart. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { accountV1, type Container, makeContainer } from "../storage/swift-store.ts";
import { digestOf } from "../support/registry-client.ts";
import { type SwiftCluster, startSwift, swiftPassword, swiftUser } from "../support/swift.ts";
import { type Registry, startRegistry } from "./harness.ts";
import { expectPulled, pushShapes } from "./store-pulls.ts";

setDefaultTimeout(120_000);
const mebibyte = 1024 * 1024;
const repository = "admin/in-swift";
const tempUrlKey = "a key of the account";

let cluster: SwiftCluster;
let container: Container;
let swiftUrl: string;

beforeAll(async () => {
  cluster = await startSwift();
  const proxy = await cluster.startProxy();
  swiftUrl = proxy.url;
  container = await makeContainer(accountV1(cluster.authUrl(proxy)));
  const headers = { "x-account-meta-temp-url-key": tempUrlKey };
  expect((await container.request("POST", "", { headers })).status).toBe(204);
});
afterAll(() => cluster?.stop());

/** config.yaml as an operator of Quay has it. */
const storage = (more: Record<string, unknown> = {}) => ({
  DISTRIBUTED_STORAGE_CONFIG: {
    swift: [
      "SwiftStorage",
      {
        swift_container: container.name,
        storage_path: "/datastorage/registry",
        auth_url: `${swiftUrl}/auth/v1.0`,
        auth_version: 1,
        swift_user: swiftUser,
        swift_password: swiftPassword,
        ...more,
      },
    ],
  },
  DISTRIBUTED_STORAGE_PREFERENCE: ["swift"],
});

describe.each([
  ["by redirect", { temp_url_key: tempUrlKey }, {}, true],
  ["through us, without a key", {}, {}, false],
  ["through us, with FEATURE_PROXY_STORAGE", { temp_url_key: tempUrlKey }, { FEATURE_PROXY_STORAGE: true }, false],
] as const)("pulls %s", (_name, engine, config, isRedirected) => {
  let registry: Registry;
  beforeAll(async () => {
    registry = await startRegistry({ ...storage(engine), ...config });
  });
  afterAll(() => registry?.stop());

  test.each(pushShapes(isRedirected))("of what was pushed as %s", async (shape) => {
    for (const sizeBytes of [1, 100_000, 20 * mebibyte + 3]) {
      const content = randomBytes(sizeBytes);
      const digest = digestOf(content);
      const pushed = await registry.admin.pushBlob(repository, content, { shape, chunkBytes: 3 * mebibyte });
      expect(pushed.status).toBe(201);
      const hex = digest.slice("sha256:".length);
      const stored = await container.object("HEAD", `datastorage/registry/sha256/${hex.slice(0, 2)}/${hex}`);
      expect(stored.headers.get("content-length")).toBe(String(sizeBytes));

      await expectPulled(registry, repository, content, isRedirected ? `${swiftUrl}/v1/AUTH_test/` : undefined);
    }
  });

  test("of an image, also after a restart and when every token is forgotten", async () => {
    const image = await registry.admin.pushImage(repository, "latest", { layers: 3, layerBytes: 9 * mebibyte });
    expect(image.response.status).toBe(201);
    await cluster.forgetTokens();
    for (const _ of [1, 2]) {
      for (const { digest } of [image.config, ...image.layers]) {
        const blob = await registry.admin.pullBlob(repository, digest);
        expect(digestOf(await blob.bytes())).toBe(digest);
      }
      await registry.berth.restart();
    }
    expect((await fetch(`${registry.berth.url}/health/instance`)).status).toBe(200);
  });

  test("an upload with a wrong digest leaves nothing", async () => {
    const before = await container.names();
    const content = randomBytes(20 * mebibyte);
    const refused = await registry.admin.pushBlob(repository, content, { digest: digestOf(randomBytes(8)) });
    expect(refused.status).toBe(400);
    expect(await container.names()).toEqual(before);
  });
});
