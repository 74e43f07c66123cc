import { describe, expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { type ArtifactPolicy, checkArtifactTypes } from "./artifact-policy.ts";
import { digestOf } from "./digest.ts";
import { parseManifest } from "./manifest.ts";
import {
  DOCKER_CONFIG,
  DOCKER_MANIFEST,
  HELM_CONFIG,
  IMAGE_LAYER_MEDIA_TYPES,
  OCI_CONFIG,
  OCI_EMPTY,
  OCI_INDEX,
  OCI_MANIFEST,
} from "./media-types.ts";

const OPEN: ArtifactPolicy = {
  FEATURE_GENERAL_OCI_SUPPORT: true,
  FEATURE_HELM_OCI_SUPPORT: true,
  IGNORE_UNKNOWN_MEDIATYPES: false,
};
const LISTED: ArtifactPolicy = {
  ...OPEN,
  ALLOWED_OCI_ARTIFACT_TYPES: { "application/vnd.one": ["application/one.layer"], "application/vnd.two": ["text/two"] },
};
const HELM_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

function image(configType: string, layerTypes: readonly string[], artifactType?: string, mediaType = OCI_MANIFEST) {
  const part = (type: string) => ({ mediaType: type, digest: digestOf(type), size: 1 });
  const document = {
    schemaVersion: 2,
    mediaType,
    artifactType,
    config: part(configType),
    layers: layerTypes.map(part),
  };
  return parseManifest(Buffer.from(JSON.stringify(document)), mediaType);
}

function outcome(manifest: ReturnType<typeof image>, policy: ArtifactPolicy): string {
  try {
    checkArtifactTypes(manifest, policy);
    return "ok";
  } catch (error) {
    if (error instanceof RegistryError) return `${error.code}: ${error.message}`;
    throw error;
  }
}

test("every type is welcome by default, or when unknown types are to be ignored", () => {
  const odd = image("application/vnd.odd", ["text/odd"], "application/vnd.odd.artifact");
  expect(outcome(odd, OPEN)).toBe("ok");
  expect(outcome(odd, { ...OPEN, FEATURE_HELM_OCI_SUPPORT: false })).toBe("ok");
  expect(outcome(odd, { ...LISTED, IGNORE_UNKNOWN_MEDIATYPES: true })).toBe("ok");
});

describe("with a list", () => {
  test.each([
    ["OCI images", image(OCI_CONFIG, IMAGE_LAYER_MEDIA_TYPES)],
    ["docker images", image(DOCKER_CONFIG, IMAGE_LAYER_MEDIA_TYPES, undefined, DOCKER_MANIFEST)],
    ["what is listed", image("application/vnd.one", ["application/one.layer"])],
    ["another listed type's layers, as in Quay", image("application/vnd.one", ["text/two"])],
    ["listed layers in images", image(OCI_CONFIG, ["text/two"])],
    ["the empty config under a listed artifact type", image(OCI_EMPTY, [OCI_EMPTY], "application/vnd.one")],
    ["Helm charts", image(HELM_CONFIG, [HELM_LAYER])],
  ])("takes %s", (_name, manifest) => {
    expect(outcome(manifest, LISTED)).toBe("ok");
  });

  test.each([
    ["another config", image("application/vnd.odd", []), LISTED, "config.mediaType"],
    ["another layer", image(OCI_CONFIG, [OCI_EMPTY, "text/odd"]), LISTED, "layers[1].mediaType"],
    ["another artifact type", image(OCI_EMPTY, [], "application/vnd.odd"), LISTED, "artifactType"],
    [
      "another artifact type over an image config",
      image(OCI_CONFIG, [], "application/vnd.odd"),
      LISTED,
      "artifactType",
    ],
    ["the empty config alone", image(OCI_EMPTY, []), LISTED, "config.mediaType"],
    ["Helm switched off", image(HELM_CONFIG, []), { ...LISTED, FEATURE_HELM_OCI_SUPPORT: false }, "config.mediaType"],
    [
      "everything on an empty list",
      image("application/vnd.one", []),
      { ...OPEN, ALLOWED_OCI_ARTIFACT_TYPES: {} },
      "config",
    ],
    ["prototype keys", image("a/constructor", []), LISTED, "config.mediaType"],
  ])("refuses %s", (_name, manifest, policy, path) => {
    expect(outcome(manifest, policy)).toStartWith(`manifest_invalid: failed to parse manifest: ${path}`);
  });
});

test("OCI types can be switched off, docker's stay", () => {
  const policy = { ...OPEN, IGNORE_UNKNOWN_MEDIATYPES: true, FEATURE_GENERAL_OCI_SUPPORT: false };
  expect(outcome(image(OCI_CONFIG, []), policy)).toStartWith("manifest_unsupported_type: ");
  const index = parseManifest(Buffer.from('{"schemaVersion":2,"manifests":[]}'), OCI_INDEX);
  expect(outcome(index, policy)).toStartWith("manifest_unsupported_type: ");
  expect(outcome(image(DOCKER_CONFIG, [], undefined, DOCKER_MANIFEST), policy)).toBe("ok");
});
