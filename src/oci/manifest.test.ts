import { describe, expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { digestOf } from "./digest.ts";
import { MANIFEST_DESCRIPTORS_MAX, MANIFEST_SIZE_BYTES_MAX, parseManifest } from "./manifest.ts";
import {
  DOCKER_CONFIG,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
  OCI_CONFIG,
  OCI_EMPTY,
  OCI_INDEX,
  OCI_MANIFEST,
} from "./media-types.ts";

const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";

function descriptor(content: string, mediaType: string, more: object = {}): object {
  return { mediaType, digest: digestOf(content), size: content.length, ...more };
}

const CONFIG = descriptor("config", OCI_CONFIG);
const IMAGE = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: CONFIG, layers: [descriptor("one", LAYER)] };
const INDEX = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [descriptor("child", OCI_MANIFEST)] };

function bytesOf(document: unknown): Uint8Array {
  return Buffer.from(typeof document === "string" ? document : JSON.stringify(document));
}

function refusal(document: unknown, contentType: string | undefined): RegistryError {
  try {
    parseManifest(document instanceof Uint8Array ? document : bytesOf(document), contentType);
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  throw new Error("was taken");
}

describe("takes", () => {
  test("an OCI image, with everything the registry acts on", () => {
    const subject = descriptor("subject", OCI_MANIFEST);
    const document = {
      ...IMAGE,
      artifactType: "application/vnd.example",
      layers: [descriptor("one", LAYER), descriptor("three", LAYER), descriptor("one", LAYER)],
      subject,
      annotations: { a: "b" },
      "org.example.custom": { kept: true },
    };
    const parsed = parseManifest(bytesOf(document), `${OCI_MANIFEST}; charset=utf-8`);
    expect(parsed).toMatchObject({
      kind: "image",
      mediaType: OCI_MANIFEST,
      artifactType: "application/vnd.example",
      declaredArtifactType: "application/vnd.example",
      configMediaType: OCI_CONFIG,
      blobsSizeBytes: "config".length + "one".length + "three".length,
      manifests: [],
    });
    expect(parsed.config?.digest).toBe(digestOf("config"));
    expect(parsed.layers.map((layer) => layer.sizeBytes)).toEqual([3, 5, 3]);
    expect(parsed.subject?.digest).toBe(digestOf("subject"));
    expect({ ...parsed.annotations }).toEqual({ a: "b" });
  });

  test("an OCI index with platforms", () => {
    const platform = { os: "linux", architecture: "arm64", variant: "v8", "os.version": "1" };
    const document = { ...INDEX, manifests: [descriptor("child", OCI_MANIFEST, { platform })] };
    const parsed = parseManifest(bytesOf(document), OCI_INDEX);
    expect(parsed).toMatchObject({ kind: "index", artifactType: undefined, layers: [], blobsSizeBytes: 0 });
    expect(parsed.config).toBeUndefined();
    expect(parsed.manifests[0]?.platform).toEqual({ os: "linux", architecture: "arm64", variant: "v8" });
  });

  const dockerImage = {
    schemaVersion: 2,
    mediaType: DOCKER_MANIFEST,
    config: descriptor("config", DOCKER_CONFIG),
    layers: [
      descriptor("one", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", {
        urls: ["https://example.com/1"],
      }),
    ],
  };
  const dockerList = { ...INDEX, mediaType: DOCKER_LIST };
  const { mediaType: _, ...untypedImage } = IMAGE;
  const { mediaType: __, ...untypedIndex } = INDEX;
  test.each([
    ["docker schema 2", dockerImage, DOCKER_MANIFEST, "image"],
    ["a docker manifest list", dockerList, DOCKER_LIST, "index"],
    ["a document that names its own type", IMAGE, undefined, "image"],
    ["an OCI manifest without mediaType", untypedImage, OCI_MANIFEST, "image"],
    ["an OCI index without mediaType", untypedIndex, OCI_INDEX, "index"],
    ["an empty mediaType", { ...IMAGE, mediaType: "" }, OCI_MANIFEST, "image"],
    ["no layers", { ...IMAGE, layers: [] }, OCI_MANIFEST, "image"],
    ["null layers", { ...IMAGE, layers: null }, OCI_MANIFEST, "image"],
    ["an empty index", { ...INDEX, manifests: [] }, OCI_INDEX, "index"],
    [
      "null for optional fields",
      { ...IMAGE, subject: null, annotations: null, artifactType: null },
      OCI_MANIFEST,
      "image",
    ],
    ["an index of indexes", { ...INDEX, manifests: [descriptor("child", OCI_INDEX)] }, OCI_INDEX, "index"],
    ["blobs of no bytes", { ...IMAGE, layers: [descriptor("", LAYER)] }, OCI_MANIFEST, "image"],
    [
      "unknown fields named like prototype ones",
      `${JSON.stringify(IMAGE).slice(0, -1)},"__proto__":{"layers":1},"constructor":1}`,
      OCI_MANIFEST,
      "image",
    ],
  ] as const)("%s", (_name, document, contentType, kind) => {
    expect(parseManifest(bytesOf(document), contentType).kind).toBe(kind);
  });

  test("the config's type as artifact type of an image", () => {
    const document = { ...IMAGE, config: descriptor("{}", "application/vnd.example.config") };
    const parsed = parseManifest(bytesOf(document), OCI_MANIFEST);
    expect(parsed.artifactType).toBe("application/vnd.example.config");
    expect(parsed.declaredArtifactType).toBeUndefined();
  });

  test("embedded data that is what its descriptor says, sha512 too", () => {
    const data = Buffer.from("{}").toString("base64");
    for (const algorithm of ["sha256", "sha512"] as const) {
      const config = { mediaType: OCI_EMPTY, digest: digestOf("{}", algorithm), size: 2, data };
      expect(parseManifest(bytesOf({ ...IMAGE, config }), OCI_MANIFEST).config?.sizeBytes).toBe(2);
    }
  });

  test("as many descriptors as the bound, and not one more", () => {
    const manifests = new Array(MANIFEST_DESCRIPTORS_MAX).fill(descriptor("child", OCI_MANIFEST));
    expect(parseManifest(bytesOf({ ...INDEX, manifests }), OCI_INDEX).manifests).toHaveLength(10_000);
    const error = refusal({ ...INDEX, manifests: [...manifests, manifests[0]] }, OCI_INDEX);
    expect(error.message).toBe("failed to parse manifest: manifests: has 10001 descriptors, at most 10000 are taken");
  });

  test("annotations whose keys are prototype names, as plain keys", () => {
    const text = JSON.stringify(IMAGE).slice(0, -1);
    const { annotations } = parseManifest(
      bytesOf(`${text},"annotations":{"__proto__":"x","constructor":"y"}}`),
      OCI_MANIFEST,
    );
    expect(Object.entries(annotations)).toEqual([
      ["__proto__", "x"],
      ["constructor", "y"],
    ]);
    expect("toString" in annotations).toBe(false);
  });
});

describe("refuses as manifest_unsupported_type", () => {
  test.each([
    ["schema 1", { schemaVersion: 1 }, DOCKER_SCHEMA1, "docker schema 1"],
    ["signed schema 1", { schemaVersion: 1 }, DOCKER_SCHEMA1_SIGNED, "docker schema 1"],
    ["schema 1 that only its version tells", { schemaVersion: 1, fsLayers: [] }, undefined, "docker schema 1"],
    ["schema 1 by its own mediaType", { schemaVersion: 1, mediaType: DOCKER_SCHEMA1 }, undefined, "docker schema 1"],
    ["another type", IMAGE, "application/json", '"application/json" is not supported'],
    ["another type in the document", { ...IMAGE, mediaType: "a/b" }, undefined, '"a/b" is not supported'],
    ["a type named like a prototype key", IMAGE, "__proto__", '"__proto__" is not supported'],
    ["a type that is none", IMAGE, "\u0000", "\\x00"],
  ])("%s", (_name, document, contentType, text) => {
    const error = refusal(document, contentType);
    expect(error.code).toBe("manifest_unsupported_type");
    expect(error.message).toContain(text);
  });
});

test("refuses a manifest over 4 MiB and takes one of just that", () => {
  const text = JSON.stringify(IMAGE);
  const padded = `${text.slice(0, -1)}${" ".repeat(MANIFEST_SIZE_BYTES_MAX - text.length)}}`;
  expect(parseManifest(bytesOf(padded), OCI_MANIFEST).kind).toBe("image");
  expect(refusal(`${padded} `, OCI_MANIFEST).code).toBe("manifest_too_large");
});

describe("refuses as manifest_invalid", () => {
  const digest = digestOf("x");
  const layer = (more: object) => ({ ...IMAGE, layers: [descriptor("one", LAYER), descriptor("two", LAYER, more)] });
  const text = JSON.stringify(IMAGE);
  test.each<[string, unknown, string | undefined, string]>([
    ["a type that header and document disagree on", IMAGE, OCI_INDEX, "mediaType: the document says"],
    ["OCI bytes called docker", IMAGE, DOCKER_MANIFEST, "they must be the same"],
    ["no type at all", { ...IMAGE, mediaType: undefined }, undefined, "mediaType: missing"],
    ["docker without mediaType", { ...IMAGE, mediaType: undefined }, DOCKER_MANIFEST, "mediaType: missing"],
    ["mediaType of another JSON type", { ...IMAGE, mediaType: 7 }, OCI_MANIFEST, "mediaType: expected"],
    ["schemaVersion 1", { ...IMAGE, schemaVersion: 1 }, OCI_MANIFEST, "schemaVersion: expected 2, got 1"],
    ["schemaVersion as text", { ...IMAGE, schemaVersion: "2" }, OCI_MANIFEST, 'schemaVersion: expected 2, got "2"'],
    ["no schemaVersion", { ...IMAGE, schemaVersion: undefined }, OCI_MANIFEST, "got nothing"],
    ["an image that is an index too", { ...IMAGE, manifests: [] }, OCI_MANIFEST, "manifests: does not belong"],
    ["an index with layers", { ...INDEX, layers: [] }, OCI_INDEX, "layers: does not belong"],
    ["an index with config", { ...INDEX, config: CONFIG }, OCI_INDEX, "config: does not belong"],
    ["an index with null layers", { ...INDEX, layers: null }, OCI_INDEX, "layers: does not belong"],
    ["an image with fsLayers", { ...IMAGE, fsLayers: [] }, OCI_MANIFEST, "fsLayers: does not belong"],
    ["an index with fsLayers", { ...INDEX, fsLayers: [] }, OCI_INDEX, "fsLayers: does not belong"],
    [
      "an untyped index called an image",
      { schemaVersion: 2, manifests: [] },
      OCI_MANIFEST,
      "manifests: does not belong",
    ],
    [
      "keys that differ in case",
      { ...INDEX, Layers: [] },
      OCI_INDEX,
      '"Layers" differs from "layers" only in letter case',
    ],
    ["keys folded from outside ASCII", { ...INDEX, layerſ: [] }, OCI_INDEX, "only in letter case"],
    ["descriptor keys that differ in case", layer({ Digest: digest }), OCI_MANIFEST, 'layers[1]: field "Digest"'],
    ["repeated keys", `${text.slice(0, -1)},"layers":[]}`, OCI_MANIFEST, 'field "layers" stands twice'],
    [
      "repeated keys, one escaped",
      `${text.slice(0, -1)},"l\\u0061yers":[]}`,
      OCI_MANIFEST,
      'field "layers" stands twice',
    ],
    ["repeated keys deep inside", text.replace('"size"', '"digest":"x","size"'), OCI_MANIFEST, '"digest" stands twice'],
    ["repeated __proto__", `${text.slice(0, -1)},"__proto__":1,"__proto__":2}`, OCI_MANIFEST, "stands twice"],
    ["no config", { ...IMAGE, config: undefined }, OCI_MANIFEST, "config: expected a descriptor object, got nothing"],
    ["null config", { ...IMAGE, config: null }, OCI_MANIFEST, "config: expected a descriptor object, got null"],
    ["no layers field", { ...IMAGE, layers: undefined }, OCI_MANIFEST, "layers: expected an array"],
    ["layers as object", { ...IMAGE, layers: { length: 1 } }, OCI_MANIFEST, "layers: expected an array"],
    ["no manifests field", { ...INDEX, manifests: undefined }, OCI_INDEX, "manifests: expected an array"],
    ["a layer that is none", { ...IMAGE, layers: [null] }, OCI_MANIFEST, "layers[0]: expected a descriptor object"],
    [
      "a layer without type",
      layer({ mediaType: undefined }),
      OCI_MANIFEST,
      "layers[1].mediaType: expected a media type",
    ],
    [
      "a layer with a bad type",
      layer({ mediaType: "tar" }),
      OCI_MANIFEST,
      "layers[1].mediaType: expected a media type",
    ],
    ["an upper-case digest", layer({ digest: digest.toUpperCase() }), OCI_MANIFEST, "layers[1].digest: expected"],
    ["a short digest", layer({ digest: digest.slice(1) }), OCI_MANIFEST, "layers[1].digest: expected"],
    ["a digest of another type", layer({ digest: [digest] }), OCI_MANIFEST, "got an array"],
    ["a negative size", layer({ size: -1 }), OCI_MANIFEST, "layers[1].size: expected a whole number"],
    ["a broken size", layer({ size: 1.5 }), OCI_MANIFEST, "layers[1].size: expected a whole number"],
    ["a size as text", layer({ size: "3" }), OCI_MANIFEST, 'got "3"'],
    ["a size beyond 2^53", text.replace('"size":6', '"size":9007199254740993'), OCI_MANIFEST, "config.size: expected"],
    ["sizes that add up beyond", layer({ size: Number.MAX_SAFE_INTEGER }), OCI_MANIFEST, "add up"],
    ["two sizes of one digest", layer({ digest: digestOf("one"), size: 4 }), OCI_MANIFEST, "has two sizes, 3 and 4"],
    ["data that is no base64", layer({ data: "!" }), OCI_MANIFEST, "layers[1].data: expected base64"],
    ["data without padding", layer({ data: "dHdvdA" }), OCI_MANIFEST, "layers[1].data: expected base64"],
    [
      "data of another size",
      layer({ data: btoa("twoo") }),
      OCI_MANIFEST,
      "holds 4 bytes, but the descriptor's size is 3",
    ],
    ["data of another digest", layer({ data: btoa("owt") }), OCI_MANIFEST, "do not have the descriptor's digest"],
    ["data as number", layer({ data: 1 }), OCI_MANIFEST, "layers[1].data: expected base64"],
    ["urls that are none", layer({ urls: [1] }), OCI_MANIFEST, "layers[1].urls[0]: expected a URL"],
    ["urls as text", layer({ urls: "https://example.com" }), OCI_MANIFEST, "layers[1].urls: expected an array"],
    ["annotations as array", { ...IMAGE, annotations: [] }, OCI_MANIFEST, "annotations: expected an object of strings"],
    [
      "annotations that are no text",
      { ...IMAGE, annotations: { a: 1 } },
      OCI_MANIFEST,
      'annotations["a"]: expected a string',
    ],
    [
      "a layer's annotations that are no text",
      layer({ annotations: { a: {} } }),
      OCI_MANIFEST,
      'layers[1].annotations["a"]',
    ],
    [
      "a platform that is none",
      { ...INDEX, manifests: [descriptor("c", OCI_MANIFEST, { platform: { os: 1 } })] },
      OCI_INDEX,
      "manifests[0].platform.os: expected a string",
    ],
    [
      "a subject that is none",
      { ...IMAGE, subject: "sha256:00" },
      OCI_MANIFEST,
      "subject: expected a descriptor object",
    ],
    ["a bad artifactType", { ...IMAGE, artifactType: "a b" }, OCI_MANIFEST, "artifactType: expected a media type"],
    ["an array", "[]", OCI_MANIFEST, "must be a JSON object, got an array"],
    ["a number", "7", OCI_MANIFEST, "must be a JSON object, got 7"],
    ["nothing", "", OCI_MANIFEST, "not valid JSON"],
    ["half a document", text.slice(0, -1), OCI_MANIFEST, "not valid JSON"],
    ["more than a document", `${text}{}`, OCI_MANIFEST, "not valid JSON"],
    ["a byte order mark", `\ufeff${text}`, OCI_MANIFEST, "not valid JSON"],
    [
      "deep nesting",
      `${text.slice(0, -1)},"x":${"[".repeat(100)}${"]".repeat(100)}}`,
      OCI_MANIFEST,
      "nested deeper than 64",
    ],
    ["nesting without end", "[".repeat(4_000_000), OCI_MANIFEST, "failed to parse manifest"],
    [
      "nesting of two million levels",
      `${"[".repeat(2_000_000)}${"]".repeat(2_000_000)}`,
      OCI_MANIFEST,
      "failed to parse",
    ],
    ["invalid UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), OCI_MANIFEST, "not valid UTF-8"],
    ["overlong UTF-8", Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d]), OCI_MANIFEST, "not valid UTF-8"],
    ["a surrogate as UTF-8", Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), OCI_MANIFEST, "not valid UTF-8"],
  ])("%s", (_name, document, contentType, message) => {
    const error = refusal(document, contentType);
    expect(error.code).toBe("manifest_invalid");
    expect(error.message).toStartWith("failed to parse manifest: ");
    expect(error.message).toContain(message);
    expect(error.message.length).toBeLessThan(500);
    expect(error.message).not.toMatch(/\p{Cc}/u);
  });
});

test("the check costs little on the largest documents", () => {
  const annotations = Object.fromEntries(
    Array.from({ length: 60_000 }, (_, i) => [`key-${i}`, `a "quoted" \\ value ${i}`]),
  );
  const bytes = bytesOf({ ...IMAGE, annotations });
  expect(bytes.length).toBeLessThan(MANIFEST_SIZE_BYTES_MAX);
  const start = performance.now();
  parseManifest(bytes, OCI_MANIFEST);
  const hostile = bytesOf(`${JSON.stringify(IMAGE).slice(0, -1)},"x":"${'\\"'.repeat(1_900_000)}"}`);
  parseManifest(hostile, OCI_MANIFEST);
  const backslashes = bytesOf(`${JSON.stringify(IMAGE).slice(0, -1)},"x":"${"\\\\".repeat(1_900_000)}"}`);
  parseManifest(backslashes, OCI_MANIFEST);
  expect(performance.now() - start).toBeLessThan(3000);
});
