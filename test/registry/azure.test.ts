/** `berth serve` with its blobs in Azure: pushes of every shape, pulls by redirect and through us, and a restart between. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { type Container, makeContainer } from "../storage/azure-store.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { digestOf } from "../support/registry-client.ts";
import { type Registry, startRegistry } from "./harness.ts";
import { expectPulled, pushShapes } from "./store-pulls.ts";

setDefaultTimeout(180_000);
const mebibyte = 1024 * 1024;
const repository = "admin/in-azure";

let azurite: Azurite;
let container: Container;

beforeAll(async () => {
  azurite = await startAzurite();
  container = await makeContainer(azurite);
});
afterAll(() => azurite?.stop());

/** config.yaml as an operator of Quay has it. */
const configWith = (proof: Record<string, unknown>) => ({
  DISTRIBUTED_STORAGE_CONFIG: {
    azure: [
      "AzureStorage",
      {
        azure_container: container.name,
        storage_path: "/datastorage/registry",
        azure_account_name: azurite.account,
        endpoint_url: azurite.url,
        ...proof,
      },
    ],
  },
  DISTRIBUTED_STORAGE_PREFERENCE: ["azure"],
});
const withKey = () => ({ azure_account_key: azurite.key });
const withSas = () => {
  const sas = container.sas();
  return { sas_token: sas.kind === "sas" ? `?${sas.token}` : "" };
};

describe.each([
  ["by redirect", withKey, {}, true],
  ["through us, with a SAS alone", withSas, {}, false],
  ["through us, with FEATURE_PROXY_STORAGE", withKey, { FEATURE_PROXY_STORAGE: true }, false],
] as const)("pulls %s", (_name, proof, more, isRedirected) => {
  let registry: Registry;
  beforeAll(async () => {
    registry = await startRegistry({ ...configWith(proof()), ...more });
  });
  afterAll(() => registry?.stop());

  test.each(pushShapes(isRedirected))("of what was pushed as %s", async (shape) => {
    for (const sizeBytes of [1, 100_000, 20 * mebibyte + 3]) {
      const content = randomBytes(sizeBytes);
      const digest = digestOf(content);
      const pushed = await registry.admin.pushBlob(repository, content, { shape, chunkBytes: 3 * mebibyte });
      expect(pushed.status).toBe(201);
      const hex = digest.slice("sha256:".length);
      expect(await container.client.sizeOf(`datastorage/registry/sha256/${hex.slice(0, 2)}/${hex}`)).toBe(sizeBytes);

      await expectPulled(registry, repository, content, isRedirected ? `${azurite.url}/` : undefined);
    }
    const names = await container.names();
    expect(names.filter((name) => name.includes("/uploads/"))).toEqual([]);
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
    expect((await fetch(`${registry.berth.url}/health/instance`)).status).toBe(200);
  });

  test("an upload with a wrong digest leaves nothing", async () => {
    const before = await container.names();
    const refused = await registry.admin.pushBlob(repository, randomBytes(20 * mebibyte), {
      digest: digestOf(randomBytes(8)),
    });
    expect(refused.status).toBe(400);
    expect(await container.names()).toEqual(before);
  });

  test("the log holds neither the key nor a signature", () => {
    expect(registry.berth.logs()).not.toContain(azurite.key);
    expect(registry.berth.logs()).not.toContain("sig=");
  });
});
