/** What is stored as a manifest and what is refused, byte for byte. Spec: image-spec; distribution-spec "Pushing Manifests". */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  absentDigest,
  artifact,
  dockerTypes,
  emptyConfig,
  fixedBytes,
  type Image,
  image,
  index,
  publish,
  raw,
} from "../support/content.ts";
import { describeContent, digestOf, mediaTypes, type RegistryClient, toBytes } from "../support/registry-client.ts";
import { errorOf, type Registry, startRegistry } from "./harness.ts";

const repository = "admin/content";
const manifestBytesMax = 4 * 1024 * 1024;
const base = image("base");
let registry: Registry;
let admin: RegistryClient;

beforeAll(async () => {
  registry = await startRegistry();
  admin = registry.admin;
  await publish(admin, repository, base, "base");
  await admin.pushBlob(repository, emptyConfig);
}, 60_000);
afterAll(() => registry.stop());

/** Pushes without any blob, under a tag of its own. */
function push(content: Image, mediaType = content.mediaType, tag = "pushed"): Promise<Response> {
  return admin.pushManifest(repository, tag, content.manifest, mediaType);
}

async function expectStored(content: Image, reference: string): Promise<void> {
  for (const each of [reference, content.digest]) {
    const response = await admin.pullManifest(repository, each);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe(content.mediaType);
    expect(response.headers.get("docker-content-digest")).toBe(content.digest);
    expect(Buffer.from(await response.bytes()).equals(content.manifest)).toBe(true);
  }
}

async function expectRefused(response: Response, status: number, code: string, text: string | RegExp): Promise<void> {
  expect(response.status).toBe(status);
  const error = await errorOf(response);
  expect(error.code).toBe(code);
  if (typeof text === "string") expect(error.message).toContain(text);
  else expect(error.message).toMatch(text);
  expect((await admin.pullManifest(repository, "pushed")).status).toBe(404);
}

describe("stored as pushed", () => {
  const odd = new TextDecoder().decode(base.manifest);
  const cases: [string, Image][] = [
    ["an OCI image", base],
    ["a docker image", image("docker", { docker: true })],
    [
      "an image with annotations and platform-less config",
      image("notes", { fields: { annotations: { a: "ü€\u0000" } } }),
    ],
    ["an OCI image without mediaType", image("untyped", { fields: { mediaType: undefined } })],
    ["odd white space", raw(` \n\t${odd.replaceAll(",", " ,\r\n ")}\n\n`)],
    ["odd order and escapes", raw(odd.replace('"schemaVersion":2,', "").replace(/\}$/, ',"\\u0073chemaVersion":2}'))],
    ["unknown fields", raw(odd.replace(/\}$/, ',"future":{"a":[1,null,1e400]},"urls":[]}'))],
    ["an artifact with the empty config", artifact("application/vnd.example.thing")],
    ["an artifact by its config type", artifactByConfig()],
    ["zstd layers", zstdImage()],
    ["an empty index", index([])],
    ["an index", index([{ ...base.descriptor, platform: { architecture: "amd64", os: "linux" } }])],
    ["a docker list", index([base.descriptor], {}, dockerTypes.list)],
    ["an index without mediaType", index([base.descriptor], { mediaType: undefined })],
    ["a sparse index", index([{ ...base.descriptor, digest: absentDigest }])],
  ];
  for (const [position, [name, content]] of cases.entries()) {
    test(`${name} comes back byte for byte`, async () => {
      const tag = `stored-${position}`;
      await publish(admin, repository, content, tag);
      await expectStored(content, tag);
    });
  }

  test("an index of indexes, the inner one pushed last", async () => {
    const inner = index([base.descriptor], { annotations: { level: "inner" } });
    const outer = index([inner.descriptor], { annotations: { level: "outer" } });
    await publish(admin, repository, outer, "outer");
    expect((await admin.pullManifest(repository, inner.digest)).status).toBe(404);
    await publish(admin, repository, inner);
    await expectStored(outer, "outer");
    await expectStored(inner, inner.digest);
  });

  test("the Content-Type's parameters and case do not matter", async () => {
    const content = image("parameters");
    for (const blob of content.blobs) await admin.pushBlob(repository, blob);
    const type = `${mediaTypes.manifest.replace("application", "Application")}; charset=utf-8`;
    expect((await push(content, type, "parameters")).status).toBe(201);
    await expectStored(content, "parameters");
  });

  test("layers that live elsewhere need not be here", async () => {
    const foreign = {
      mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
      digest: absentDigest,
      size: 12345,
      urls: ["https://example.com/layer"],
    };
    const content = image("foreign", { docker: true, fields: { layers: [foreign] } });
    await publish(admin, repository, content, "foreign");
    await expectStored(content, "foreign");
  });

  test("a manifest that another repository has still needs its blobs here", async () => {
    const response = await admin.pushManifest("admin/content-other", "base", base.manifest);
    expect(response.status).toBe(400);
    expect((await errorOf(response)).code).toBe("MANIFEST_BLOB_UNKNOWN");
  });
});

describe("sizes", () => {
  test("a manifest of exactly 4 MiB is taken, one byte more is 413", async () => {
    const make = (size: number) => {
      const frame = toBytes({ ...JSON.parse(new TextDecoder().decode(base.manifest)), annotations: { pad: "" } });
      const pad = "x".repeat(size - frame.length);
      return image("base", { fields: { annotations: { pad } } });
    };
    const largest = make(manifestBytesMax);
    expect(largest.manifest).toHaveLength(manifestBytesMax);
    expect((await push(largest, mediaTypes.manifest, "largest")).status).toBe(201);
    await expectStored(largest, "largest");
    await expectRefused(await push(make(manifestBytesMax + 1)), 413, "MANIFEST_INVALID", /4194305.*4194304/);
  }, 30_000);

  test("nothing at all is refused", async () => {
    await expectRefused(await push(raw("")), 400, "MANIFEST_INVALID", "failed to parse manifest");
  });

  test("10,000 descriptors are the most", async () => {
    const many = (count: number) => index(Array.from({ length: count }, () => base.descriptor));
    expect((await push(many(10_000), mediaTypes.index, "many")).status).toBe(201);
    await expectRefused(await push(many(10_001)), 400, "MANIFEST_INVALID", "10001");
  }, 60_000);
});

describe("refused", () => {
  const schema1 = raw(
    JSON.stringify({
      schemaVersion: 1,
      name: repository,
      tag: "pushed",
      architecture: "amd64",
      fsLayers: [],
      history: [],
    }),
  );
  for (const [name, type] of [
    ["signed", dockerTypes.schema1Signed],
    ["unsigned", dockerTypes.schema1],
    ["untold", ""],
  ] as const) {
    test(`docker schema 1, ${name}: 415 with what to do about it`, async () => {
      const text =
        /docker schema 1 manifests .* are not supported: push with a client that makes docker schema 2 or OCI/;
      await expectRefused(await push(schema1, type), 415, "MANIFEST_INVALID", text);
    });
  }

  const described = (content: Uint8Array, type: string) => describeContent(content, type);
  const both = { manifests: [base.descriptor] };
  const cases: [string, Image, string, number, RegExp][] = [
    ["a type that is no manifest's", base, "application/json", 415, /"application\/json" is not supported/],
    ["a type of no form", base, "nonsense", 415, /not supported/],
    ["an index sent as image", index([]), mediaTypes.manifest, 400, /they must be the same/],
    ["an image sent as index", base, mediaTypes.index, 400, /they must be the same/],
    ["a docker image sent as OCI", image("d", { docker: true }), mediaTypes.manifest, 400, /must be the same/],
    ["an untyped index sent as image", index([], { mediaType: undefined }), mediaTypes.manifest, 400, /manifests/],
    ["an image with manifests", image("base", { fields: both }), mediaTypes.manifest, 400, /either image or index/],
    ["an index with layers", index([], { layers: [] }), mediaTypes.index, 400, /either image or index/],
    ["an index with a config", index([], { config: base.descriptor }), mediaTypes.index, 400, /either image or index/],
    ["an image with fsLayers", image("base", { fields: { fsLayers: [] } }), mediaTypes.manifest, 400, /either image/],
    ["a field in other letter case", image("base", { fields: { Layers: [] } }), mediaTypes.manifest, 400, /Layers/],
    ["a doubled field", raw('{"schemaVersion":2,"layers":[],"layers":[]}'), mediaTypes.manifest, 400, /layers/],
    ["no JSON", raw("<manifest/>"), mediaTypes.manifest, 400, /failed to parse manifest/],
    ["an array", raw("[]"), mediaTypes.manifest, 400, /failed to parse manifest/],
    ["JSON cut off", raw(base.manifest.slice(0, -1)), mediaTypes.manifest, 400, /failed to parse manifest/],
    ["JSON with a tail", raw(`${new TextDecoder().decode(base.manifest)} {}`), mediaTypes.manifest, 400, /parse/],
    ["bytes that are no UTF-8", raw(Uint8Array.of(0x7b, 0xff, 0x7d)), mediaTypes.manifest, 400, /parse/],
    ["JSON nested without end", raw("[".repeat(100_000)), mediaTypes.manifest, 400, /parse/],
    ["schemaVersion 3", image("base", { fields: { schemaVersion: 3 } }), mediaTypes.manifest, 400, /schemaVersion/],
    ["no config", image("base", { fields: { config: undefined } }), mediaTypes.manifest, 400, /config/],
    ["no layers", image("base", { fields: { layers: undefined } }), mediaTypes.manifest, 400, /layers/],
    [
      "a layer's digest in upper case",
      image("base", {
        fields: { layers: [{ ...described(emptyConfig, mediaTypes.layer), digest: `sha256:${"A".repeat(64)}` }] },
      }),
      mediaTypes.manifest,
      400,
      /layers\[0\]\.digest/,
    ],
    [
      "a negative size",
      image("base", { fields: { layers: [{ ...described(emptyConfig, mediaTypes.layer), size: -1 }] } }),
      mediaTypes.manifest,
      400,
      /layers\[0\]\.size/,
    ],
    [
      "another size than the blob's",
      image("base", { fields: { layers: [{ ...described(emptyConfig, mediaTypes.layer), size: 3 }] } }),
      mediaTypes.manifest,
      400,
      /has 2 bytes, the descriptor says 3/,
    ],
    ["a subject that is no descriptor", artifact("a/b", { subject: "sha256:1" }), mediaTypes.manifest, 400, /subject/],
  ];
  for (const [name, content, type, status, text] of cases) {
    test(`${name}: ${status}, and nothing is stored`, async () => {
      await expectRefused(await push(content, type), status, "MANIFEST_INVALID", text);
    });
  }

  test("a blob that is not here is named", async () => {
    const content = image("blobless");
    const [config = emptyConfig, layer = emptyConfig] = content.blobs;
    const first = await push(content);
    expect(first.status).toBe(400);
    const error = await errorOf(first);
    expect(error).toMatchObject({
      code: "MANIFEST_BLOB_UNKNOWN",
      detail: { digests: [digestOf(config), digestOf(layer)] },
    });
    expect(error.message).toBe(`Unknown blob \`${digestOf(config)}\``);
    await admin.pushBlob(repository, config);
    const second = await push(content);
    expect((await errorOf(second)).detail).toEqual({ digests: [digestOf(layer)] });
    await admin.pushBlob(repository, layer);
    expect((await push(content, content.mediaType, "complete")).status).toBe(201);
  });

  test("a wrong tag is refused with Quay's text", async () => {
    for (const tag of ["-a", ".a", "a".repeat(129), "a%20b", "%C3%BC", "a+b"]) {
      const response = await push(base, base.mediaType, tag);
      expect(response.status, tag).toBe(400);
      const { code, message } = await errorOf(response);
      // Odd bytes are refused before anybody looks at what they would name.
      expect(["TAG_INVALID", "NAME_INVALID"]).toContain(code);
      if (code === "TAG_INVALID") expect(message).toStartWith("Invalid tag: must match [A-Za-z0-9_.-], NOT start with");
    }
    expect((await push(base, base.mediaType, "a".repeat(128))).status).toBe(201);
  });
});

describe("by configuration", () => {
  const allowed = { "application/vnd.example.config": ["application/vnd.example.layer"] };
  let strict: Registry;
  beforeAll(async () => {
    strict = await startRegistry({
      FEATURE_SPARSE_INDEX: false,
      IGNORE_UNKNOWN_MEDIATYPES: false,
      ALLOWED_OCI_ARTIFACT_TYPES: allowed,
    });
    await publish(strict.admin, repository, base, "base");
    await strict.admin.pushBlob(repository, emptyConfig);
  }, 60_000);
  afterAll(() => strict.stop());

  test("FEATURE_SPARSE_INDEX false: a child that is not here is named", async () => {
    const sparse = index([base.descriptor, { ...base.descriptor, digest: absentDigest }]);
    const response = await strict.admin.pushManifest(repository, "sparse", sparse.manifest, mediaTypes.index);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({
      code: "MANIFEST_BLOB_UNKNOWN",
      detail: { digests: [absentDigest] },
    });
    const whole = index([base.descriptor]);
    expect((await strict.admin.pushManifest(repository, "whole", whole.manifest, mediaTypes.index)).status).toBe(201);
  });

  test("ALLOWED_OCI_ARTIFACT_TYPES: listed types and image types are let in, others are not", async () => {
    const layer = fixedBytes(50, 3);
    await strict.admin.pushBlob(repository, layer);
    const make = (configType: string, layerType: string) =>
      image("typed", {
        fields: { config: describeContent(emptyConfig, configType), layers: [describeContent(layer, layerType)] },
      });
    const status = async (configType: string, layerType: string) => {
      const { manifest } = make(configType, layerType);
      const response = await strict.admin.pushManifest(repository, "typed", manifest);
      if (response.status !== 201) {
        const { code, message } = await errorOf(response);
        expect(code).toBe("MANIFEST_INVALID");
        expect(message).toStartWith("failed to parse manifest: ");
      }
      return response.status;
    };
    expect(await status("application/vnd.example.config", "application/vnd.example.layer")).toBe(201);
    expect(await status(mediaTypes.config, mediaTypes.layer)).toBe(201);
    expect(await status("application/vnd.cncf.helm.config.v1+json", "application/tar+gzip")).toBe(201);
    expect(await status("application/vnd.other.config", "application/vnd.example.layer")).toBe(400);
    expect(await status("application/vnd.example.config", "application/vnd.other.layer")).toBe(400);
    const other = artifact("application/vnd.other");
    expect((await strict.admin.pushManifest(repository, "other", other.manifest)).status).toBe(400);
  });
});

function artifactByConfig(): Image {
  return image("by-config", {
    fields: { config: describeContent(emptyConfig, "application/vnd.example.config+json") },
  });
}

function zstdImage(): Image {
  const zstd = image("zstd");
  const [, layer = emptyConfig] = zstd.blobs;
  const layers = [describeContent(layer, "application/vnd.oci.image.layer.v1.tar+zstd")];
  const changed = image("zstd", { fields: { layers } });
  return { ...changed, blobs: zstd.blobs };
}
