import { expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { parseV2Path, type V2Route } from "./path.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

const ROUTES: [string, V2Route][] = [
  ["/v2", { kind: "base" }],
  ["/v2/", { kind: "base" }],
  ["/v2/auth", { kind: "token" }],
  ["/v2/_catalog", { kind: "catalog" }],
  ["/v2/a/manifests/latest", { kind: "manifest", name: "a", reference: "latest" }],
  [`/v2/a/b/c/manifests/${DIGEST}`, { kind: "manifest", name: "a/b/c", reference: DIGEST }],
  [`/v2/a/b/blobs/${DIGEST}`, { kind: "blob", name: "a/b", digest: DIGEST }],
  ["/v2/a/b/blobs/uploads", { kind: "upload-start", name: "a/b" }],
  ["/v2/a/b/blobs/uploads/", { kind: "upload-start", name: "a/b" }],
  ["/v2/a/b/blobs/uploads/1-2-3", { kind: "upload", name: "a/b", uploadId: "1-2-3" }],
  ["/v2/a/b/tags/list", { kind: "tags", name: "a/b" }],
  [`/v2/a/b/referrers/${DIGEST}`, { kind: "referrers", name: "a/b", digest: DIGEST }],
  // Names made of path words.
  ["/v2/a/manifests/b/manifests/v1", { kind: "manifest", name: "a/manifests/b", reference: "v1" }],
  ["/v2/x/blobs/uploads/manifests/v1", { kind: "manifest", name: "x/blobs/uploads", reference: "v1" }],
  ["/v2/x/blobs/uploads/tags/list", { kind: "tags", name: "x/blobs/uploads" }],
  ["/v2/x/blobs/uploads/blobs/uploads/", { kind: "upload-start", name: "x/blobs/uploads" }],
  ["/v2/x/blobs/uploads/blobs/uploads/7", { kind: "upload", name: "x/blobs/uploads", uploadId: "7" }],
  ["/v2/x/tags/list/manifests/list", { kind: "manifest", name: "x/tags/list", reference: "list" }],
  ["/v2/x/manifests/tags/list", { kind: "tags", name: "x/manifests" }],
  ["/v2/manifests/manifests/manifests", { kind: "manifest", name: "manifests", reference: "manifests" }],
  ["/v2/auth/auth/tags/list", { kind: "tags", name: "auth/auth" }],
  ["/v2/_catalog/x/tags/list", { kind: "tags", name: "_catalog/x" }],
  ["/v2/a/.b/tags/list", { kind: "tags", name: "a/.b" }],
  ["/v2/a/b../tags/list", { kind: "tags", name: "a/b.." }],
  ["/v2/a/.../tags/list", { kind: "tags", name: "a/..." }],
  ["/v2/__proto__/x/tags/list", { kind: "tags", name: "__proto__/x" }],
  // Encoded spellings are the same route; decoding happens once.
  ["/v2/a%2Fb%2fc/manifests/v1", { kind: "manifest", name: "a/b/c", reference: "v1" }],
  ["/v2/a/b%2Fmanifests%2Fv1", { kind: "manifest", name: "a/b", reference: "v1" }],
  ["/%76%32/%61/b/tags/list", { kind: "tags", name: "a/b" }],
  [`/v2/a/b/manifests/${DIGEST.replace(":", "%3A")}`, { kind: "manifest", name: "a/b", reference: DIGEST }],
  ["/v2/a%252Fb/manifests/v1", { kind: "manifest", name: "a%2Fb", reference: "v1" }],
  ["/v2/a/b/blobs/uploads%2F", { kind: "upload-start", name: "a/b" }],
  // Nothing we know.
  ["/", { kind: "unknown" }],
  ["", { kind: "unknown" }],
  ["/v1/a", { kind: "unknown" }],
  ["/v2x/a/tags/list", { kind: "unknown" }],
  ["/V2/a/tags/list", { kind: "unknown" }],
  ["/v2/auth/", { kind: "unknown" }],
  ["/v2/a", { kind: "unknown" }],
  ["/v2/manifests/v1", { kind: "unknown" }],
  ["/v2/tags/list", { kind: "unknown" }],
  ["/v2/tags/list/", { kind: "unknown" }],
  ["/v2/blobs/uploads", { kind: "unknown" }],
  ["/v2/blobs/uploads/", { kind: "unknown" }],
  ["/v2/blobs/uploads/7", { kind: "unknown" }],
  ["/v2/a/uploads/7", { kind: "unknown" }],
  ["/v2/a/b/tags", { kind: "unknown" }],
  ["/v2/a/b/tags/list/", { kind: "unknown" }],
  ["/v2/a/b/tags/other", { kind: "unknown" }],
  ["/v2/a/b/manifests/", { kind: "unknown" }],
  ["/v2/a/b/manifests/v1/", { kind: "unknown" }],
  ["/v2/a/b/manifests/v1/x", { kind: "unknown" }],
  ["/v2/a/b/blobs/uploads/7/", { kind: "unknown" }],
];

test.each(ROUTES)("%s", (path, route) => {
  expect(parseV2Path(path)).toEqual(route);
});

test.each([
  "/v2//",
  "/v2//a/b/tags/list",
  "//v2/a/b/tags/list",
  "/v2/a//b/tags/list",
  "/v2/a/b//tags/list",
  "/v2/a/b/manifests//",
  "/v2/a/b/blobs/uploads//",
  "/v2/a%2F%2Fb/tags/list",
  "/v2/a/%2fb/tags/list",
  "/v2/a/./b/tags/list",
  "/v2/a/../b/tags/list",
  "/v2/../v2/a/tags/list",
  "/v2/a/%2e%2e/b/tags/list",
  "/v2/a/.%2E/b/tags/list",
  "/v2/a/..%2fb/tags/list",
  "/v2/a/b/manifests/..",
  "/v2/a/b/manifests/.",
  "/v2/.",
  "/v2/..",
  "/v2/a%00b/x/tags/list",
  "/v2/a\u0000b/x/tags/list",
  "/v2/a%0Ab/x/tags/list",
  "/v2/a%7Fb/x/tags/list",
  "/v2/ä/x/tags/list",
  "/v2/%C3%A4/x/tags/list",
  "/v2/%C0%AF/x/tags/list",
  "/v2/%C0%AE%C0%AE/x/tags/list",
  "/v2/%E0%80%AF/x/tags/list",
  "/v2/%ED%A0%80/x/tags/list",
  "/v2/%FF/x/tags/list",
  "/v2/%/x/tags/list",
  "/v2/%2/x/tags/list",
  "/v2/%zz/x/tags/list",
  "/v2/%u002f/x/tags/list",
  `/v2/${"a/".repeat(5000)}tags/list`,
])("refuses %j", (path) => {
  try {
    parseV2Path(path);
    throw new Error("was taken");
  } catch (error) {
    expect(error).toBeInstanceOf(RegistryError);
    expect((error as RegistryError).code).toBe("name_invalid");
    expect((error as RegistryError).message).not.toMatch(/\p{Cc}/u);
  }
});

test("is quick also on long hostile paths", () => {
  const paths = [
    `/v2/${"/a".repeat(2000)}`,
    `/v2/${"%2e".repeat(1300)}`,
    `/v2/${".a/".repeat(1300)}`,
    "/".repeat(4000),
  ];
  const start = performance.now();
  for (let round = 0; round < 100; round += 1) {
    for (const path of paths) {
      try {
        parseV2Path(path);
      } catch (error) {
        expect(error).toBeInstanceOf(RegistryError);
      }
    }
  }
  expect(performance.now() - start).toBeLessThan(2000);
});
