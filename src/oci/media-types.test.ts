import { expect, test } from "bun:test";
import {
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
  isExternalLayerMediaType,
  isIndexMediaType,
  isManifestMediaType,
  isMediaType,
  isSchema1MediaType,
  MANIFEST_MEDIA_TYPES,
  OCI_INDEX,
  OCI_MANIFEST,
  parseMediaType,
} from "./media-types.ts";

test.each([
  [undefined, undefined],
  [null, undefined],
  ["", undefined],
  [" ; charset=utf-8", undefined],
  [OCI_MANIFEST, OCI_MANIFEST],
  ["  Application/Vnd.OCI.Image.Manifest.V1+JSON ; charset=utf-8; x=1", OCI_MANIFEST],
])("reads the header %j as %j", (header, type) => {
  expect(parseMediaType(header)).toBe(type);
});

test("knows its manifest types", () => {
  expect(MANIFEST_MEDIA_TYPES.every(isManifestMediaType)).toBe(true);
  expect(MANIFEST_MEDIA_TYPES.filter(isIndexMediaType)).toEqual([OCI_INDEX, DOCKER_LIST]);
  expect([DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED].every(isSchema1MediaType)).toBe(true);
  expect([DOCKER_SCHEMA1, "application/json", "", "__proto__"].some(isManifestMediaType)).toBe(false);
  expect(isManifestMediaType(DOCKER_MANIFEST)).toBe(true);
});

test("knows layers that may live elsewhere", () => {
  expect(isExternalLayerMediaType("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")).toBe(true);
  expect(isExternalLayerMediaType("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd")).toBe(true);
  expect(isExternalLayerMediaType("application/vnd.oci.image.layer.v1.tar+gzip")).toBe(false);
});

test.each([
  ["application/json", true],
  ["a/b", true],
  [`${"a".repeat(127)}/${"b".repeat(127)}`, true],
  [`${"a".repeat(128)}/b`, false],
  ["text", false],
  ["a/b/c", false],
  ["a/b; c=d", false],
  ["a/b\n", false],
  ["*/*", false],
  ["/b", false],
  ["a/", false],
  ["", false],
])("%j is a media type: %p", (text, valid) => {
  expect(isMediaType(text)).toBe(valid);
});
