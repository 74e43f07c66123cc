import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../config/error.ts";
import { isStorageDriver, type StorageEngineConfig, storageDrivers } from "../../config/keys/storage.ts";
import type { EngineContext } from "../open.ts";
import { PartPool } from "../remote/part-pool.ts";
import { headersOf, openS3, type S3EngineConfig } from "./open.ts";

const silent = (): void => {};
const context: EngineContext = {
  authorities: async () => [],
  clock: { nowMs: () => Date.UTC(2026, 0, 1) },
  log: { debug: silent, info: silent, warn: silent, error: silent, wants: () => false, flush: silent },
  parts: new PartPool(),
  layerBytesMax: 20 * 1024 ** 3,
};
const hex = "ab".repeat(32);
const key = `sha256/ab/${hex}`;
const amazon = { s3_bucket: "blobs", storage_path: "/registry", s3_access_key: "AK", s3_secret_key: "planted-secret" };
const keyed = { bucket_name: "blobs", storage_path: "/registry", access_key: "AK", secret_key: "planted-secret" };
const ceph = { ...keyed, hostname: "rgw.example.com", is_secure: false };

/** An engine as config.yaml has it, checked as the loader checks it. */
function engine(name: string, args: Record<string, unknown>): S3EngineConfig {
  if (!isStorageDriver(name)) throw new Error(`no driver "${name}"`);
  return [name, storageDrivers[name].parse(args)] as StorageEngineConfig as S3EngineConfig;
}

async function urlOf(name: string, args: Record<string, unknown>, namespace = "acme"): Promise<URL> {
  const driver = openS3(engine(name, args), "default", context);
  return new URL((await driver.clientUrl?.(key, { method: "GET", namespace })) ?? "");
}

describe("clients are sent to", () => {
  const addresses: [string, string, Record<string, unknown>, string][] = [
    ["AWS", "S3Storage", amazon, "https://blobs.s3.us-east-1.amazonaws.com/registry/"],
    [
      "a region",
      "S3Storage",
      { ...amazon, s3_region: "eu-west-1" },
      "https://blobs.s3.eu-west-1.amazonaws.com/registry/",
    ],
    ["a host", "S3Storage", { ...amazon, host: "s3.example.com" }, "https://s3.example.com/blobs/registry/"],
    [
      "a host and a port",
      "S3Storage",
      { ...amazon, host: "s3.example.com", port: 9000, is_secure: false },
      "http://s3.example.com:9000/blobs/registry/",
    ],
    [
      "an endpoint before a host",
      "S3Storage",
      { ...amazon, host: "s3.example.com", endpoint_url: "http://[::1]:9000" },
      "http://[::1]:9000/blobs/registry/",
    ],
    [
      "an address of their own",
      "S3Storage",
      { ...amazon, host: "10.0.0.1", public_endpoint_url: "https://s3.example.com" },
      "https://s3.example.com/blobs/registry/",
    ],
    ["Ceph", "RadosGWStorage", ceph, "http://rgw.example.com/blobs/registry/"],
    ["OpenShift", "RHOCSStorage", { ...ceph, port: 443, is_secure: true }, "https://rgw.example.com/blobs/registry/"],
    ["Google", "GoogleCloudStorage", keyed, "https://storage.googleapis.com/blobs/registry/"],
  ];
  test.each(addresses)("%s", async (_name, driver, args, prefix) => {
    const url = await urlOf(driver, args);
    expect(url.origin + url.pathname).toBe(prefix + key);
    expect(url.searchParams.get("response-content-disposition")).toBe("attachment");
    expect(url.searchParams.get("X-Amz-Expires")).toBe("600");
    expect(url.href).not.toContain("planted-secret");
  });

  test("Google with its own name for all regions", async () => {
    expect((await urlOf("GoogleCloudStorage", keyed)).searchParams.get("X-Amz-Credential")).toContain("/auto/s3/");
  });
});

const paths: [string, string][] = [
  ["/", ""],
  ["", ""],
  ["//", ""],
  ["/a/b", "a/b/"],
  ["a/b", "a/b/"],
  ["a/b/", "a/b/"],
  ["/a/b///", "a/b/"],
  ["/with space/é+%", "with%20space/%C3%A9%2B%25/"],
];
test.each(paths)("storage_path %p begins keys with %p", async (storagePath, prefix) => {
  const url = await urlOf("S3Storage", { ...amazon, host: "s3.example.com", storage_path: storagePath });
  expect(url.pathname).toBe(`/blobs/${prefix}${key}`);
});

describe("is refused", () => {
  const wrong: [string, Record<string, unknown>, string][] = [
    ["a path with two slashes", { storage_path: "/a//b" }, 'storage_path "/a//b" must be names between single slashes'],
    ["a path that goes up", { storage_path: "/a/../b" }, "must be names between single slashes"],
    ["a path with a dot", { storage_path: "." }, "must be names between single slashes"],
    ["half of the keys", { s3_secret_key: undefined }, "s3_access_key and s3_secret_key must be given together"],
    ["an endpoint that is no URL", { endpoint_url: "s3.example.com" }, '"s3.example.com" must be a URL'],
    ["a host that is none", { host: "a b" }, "must be a URL"],
    ["an address by name", { host: "127.0.0.1", addressing_style: "virtual" }, '"127.0.0.1" is an address'],
  ];
  test.each(wrong)("%s", (_name, args, message) => {
    const open = () => openS3(engine("S3Storage", { ...amazon, ...args }), "site-a", context);
    expect(open).toThrow(ConfigError);
    expect(open).toThrow(message);
    expect(open).not.toThrow("planted-secret");
  });
});

describe("objects are encrypted", () => {
  const sse = "x-amz-server-side-encryption";
  const cases: [string, boolean, Record<string, unknown>, Record<string, string>][] = [
    ["by AWS as in Quay", true, {}, { [sse]: "AES256" }],
    ["by others as they like", false, {}, {}],
    ["by others when the config says so", false, { server_side_encryption: "AES256" }, { [sse]: "AES256" }],
    ["by AWS as it likes", true, { server_side_encryption: "none" }, {}],
    [
      "with a key",
      true,
      { server_side_encryption: "aws:kms", kms_key_id: "arn:aws:kms:x" },
      { [sse]: "aws:kms", [`${sse}-aws-kms-key-id`]: "arn:aws:kms:x" },
    ],
    ["without a key that is meant for another way", true, { kms_key_id: "arn:aws:kms:x" }, { [sse]: "AES256" }],
  ];
  test.each(cases)("%s", (_name, isAws, args, headers) => {
    const [, read] = engine("S3Storage", { ...amazon, ...args });
    expect(headersOf({ isAws }, read)).toEqual({ "content-type": "application/octet-stream", ...headers });
  });
});

describe("CloudFront", () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "berth-cloudfront-"));
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(join(dir, "cdn.pem"), privateKey.export({ type: "pkcs1", format: "pem" }));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const args = (more: Record<string, unknown> = {}) => ({
    ...amazon,
    s3_region: "us-east-1",
    cloudfront_distribution_domain: "cdn.example.com",
    cloudfront_key_id: "K1",
    cloudfront_privatekey_filename: join(dir, "cdn.pem"),
    cloudfront_distribution_org_overrides: { beta: "beta.example.com" },
    ...more,
  });

  test("is where clients are sent, without storage_path, and some to a distribution of their own", async () => {
    const url = await urlOf("CloudFrontedS3Storage", args());
    expect(url.origin + url.pathname).toBe(`https://cdn.example.com/${key}`);
    expect(Number(url.searchParams.get("Expires"))).toBe(Date.UTC(2026, 0, 1) / 1000 + 600);
    expect((await urlOf("CloudFrontedS3Storage", args(), "beta")).host).toBe("beta.example.com");
  });

  test("without its key is refused at start", () => {
    const open = (path: string) => () =>
      openS3(engine("CloudFrontedS3Storage", args({ cloudfront_privatekey_filename: path })), "cdn", context);
    expect(open(join(dir, "missing.pem"))).toThrow(ConfigError);
    expect(open(join(dir, "missing.pem"))).toThrow('missing.pem"');
    writeFileSync(join(dir, "bad.pem"), "planted-secret");
    expect(open(join(dir, "bad.pem"))).toThrow("it is no private key in PEM");
    expect(open(join(dir, "bad.pem"))).not.toThrow("planted-secret");
  });

  test("does not sign for what is no object", async () => {
    const driver = openS3(engine("CloudFrontedS3Storage", args()), "cdn", context);
    expect(async () => driver.clientUrl?.("../secret", { method: "GET" })).toThrow("is not the key of an object");
  });
});
