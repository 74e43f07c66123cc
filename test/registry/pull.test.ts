/** Pulling manifests and blobs: references, conditions and ranges. Spec: distribution-spec "Pull"; RFC 9110, 13 and 14. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { absentDigest, fixedBytes, image, publish } from "../support/content.ts";
import { digestOf, mediaTypes } from "../support/registry-client.ts";
import { errorOf, type Registry, startRegistry } from "./harness.ts";

const repository = "admin/pull";
const content = image("pull");
const blob = fixedBytes(5000, 7);
const blobDigest = digestOf(blob);
const emptyDigest = digestOf(new Uint8Array());
let registry: Registry;

beforeAll(async () => {
  // Where blobs lie in a bucket too, these are our answers and not the store's.
  registry = await startRegistry({ FEATURE_PROXY_STORAGE: true });
  await publish(registry.admin, repository, content, "v1");
  await registry.admin.pushBlob(repository, blob);
  await registry.admin.pushBlob(repository, new Uint8Array());
}, 60_000);
afterAll(() => registry.stop());

describe("manifests", () => {
  for (const [name, reference] of [
    ["tag", "v1"],
    ["digest", content.digest],
  ] as const) {
    test(`GET by ${name} gives the pushed bytes with type, length, digest and entity tag`, async () => {
      const response = await registry.admin.pullManifest(repository, reference);
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe(mediaTypes.manifest);
      expect(response.headers.get("content-length")).toBe(String(content.manifest.length));
      expect(response.headers.get("docker-content-digest")).toBe(content.digest);
      expect(response.headers.get("etag")).toBe(`"${content.digest}"`);
      expect(response.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
      expect(await response.bytes()).toEqual(content.manifest);
    });

    test(`HEAD by ${name} gives the same headers and no body`, async () => {
      const response = await registry.admin.pullManifest(repository, reference, { method: "HEAD" });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe(mediaTypes.manifest);
      expect(response.headers.get("content-length")).toBe(String(content.manifest.length));
      expect(response.headers.get("docker-content-digest")).toBe(content.digest);
      expect(response.headers.get("etag")).toBe(`"${content.digest}"`);
      expect(await response.bytes()).toHaveLength(0);
    });

    test(`If-None-Match by ${name}: what the client has is answered with 304 and its digest`, async () => {
      const same = [`"${content.digest}"`, `W/"${content.digest}"`, `"other", "${content.digest}"`, "*"];
      for (const method of ["GET", "HEAD"]) {
        for (const value of same) {
          const headers = { "if-none-match": value };
          const response = await registry.admin.pullManifest(repository, reference, { method, headers });
          expect(response.status, `${method} ${value}`).toBe(304);
          expect(response.headers.get("etag")).toBe(`"${content.digest}"`);
          expect(response.headers.get("docker-content-digest")).toBe(content.digest);
          expect(await response.bytes()).toHaveLength(0);
        }
      }
      const other = { "if-none-match": `"${absentDigest}", ${content.digest}` };
      const response = await registry.admin.pullManifest(repository, reference, { headers: other });
      expect(response.status).toBe(200);
    });
  }

  test("what is not there is MANIFEST_UNKNOWN with the reference in its detail", async () => {
    for (const reference of ["v2", absentDigest, `sha512:${"0".repeat(128)}`]) {
      const response = await registry.admin.pullManifest(repository, reference);
      expect(response.status).toBe(404);
      expect(await errorOf(response)).toMatchObject({ code: "MANIFEST_UNKNOWN", detail: { reference } });
      const headOnly = await registry.admin.pullManifest(repository, reference, { method: "HEAD" });
      expect(headOnly.status).toBe(404);
    }
  });

  test("a blob's digest is no manifest, a manifest's digest is no blob", async () => {
    expect((await registry.admin.pullManifest(repository, blobDigest)).status).toBe(404);
    const response = await registry.admin.pullBlob(repository, content.digest);
    expect(response.status).toBe(404);
    expect((await errorOf(response)).code).toBe("BLOB_UNKNOWN");
  });
});

describe("blobs", () => {
  test("GET and HEAD name length, digest, entity tag and that ranges work", async () => {
    for (const method of ["GET", "HEAD"]) {
      const response = await registry.admin.pullBlob(repository, blobDigest, { method });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-length")).toBe("5000");
      expect(response.headers.get("docker-content-digest")).toBe(blobDigest);
      expect(response.headers.get("etag")).toBe(`"${blobDigest}"`);
      expect(response.headers.get("accept-ranges")).toBe("bytes");
      expect(response.headers.get("content-type")).toBe("application/octet-stream");
      expect(response.headers.get("content-disposition")).toBe("attachment");
      expect(await response.bytes()).toEqual(method === "GET" ? blob : new Uint8Array());
    }
  });

  test("If-None-Match answers 304", async () => {
    const headers = { "if-none-match": `"${blobDigest}"` };
    const response = await registry.admin.pullBlob(repository, blobDigest, { headers });
    expect(response.status).toBe(304);
    expect(response.headers.get("etag")).toBe(`"${blobDigest}"`);
  });

  for (const [name, header, first, last] of [
    ["from the start", "bytes=0-99", 0, 99],
    ["one byte", "bytes=4999-4999", 4999, 4999],
    ["in the middle", "bytes=100-299", 100, 299],
    ["clipped to the size", "bytes=4900-99999", 4900, 4999],
    ["clipped, however far", `bytes=1-${"9".repeat(60)}`, 1, 4999],
    ["open", "bytes=4000-", 4000, 4999],
    ["the whole as a range", "bytes=0-", 0, 4999],
    ["suffix", "bytes=-200", 4800, 4999],
    ["suffix longer than the blob", "bytes=-99999", 0, 4999],
    ["with odd spaces and case", "BYTES = 10 - 19", 10, 19],
  ] as const) {
    test(`Range ${name} is a 206 with Content-Range`, async () => {
      for (const method of ["GET", "HEAD"]) {
        const response = await registry.admin.pullBlob(repository, blobDigest, { method, headers: { range: header } });
        expect(response.status).toBe(206);
        expect(response.headers.get("content-range")).toBe(`bytes ${first}-${last}/5000`);
        expect(response.headers.get("content-length")).toBe(String(last - first + 1));
        expect(response.headers.get("docker-content-digest")).toBe(blobDigest);
        expect(response.headers.get("etag")).toBe(`"${blobDigest}"`);
        expect(await response.bytes()).toEqual(method === "GET" ? blob.slice(first, last + 1) : new Uint8Array());
      }
    });
  }

  for (const header of ["bytes=5000-", "bytes=5000-5001", "bytes=-0", `bytes=${"9".repeat(40)}-`, "bytes=20-10"]) {
    test(`Range ${header.slice(0, 20)} cannot be satisfied: 416 with the size`, async () => {
      const response = await registry.admin.pullBlob(repository, blobDigest, { headers: { range: header } });
      expect(response.status).toBe(416);
      expect(response.headers.get("content-range")).toBe("bytes */5000");
      expect((await errorOf(response)).detail).toEqual({ size: 5000 });
    });
  }

  for (const header of ["bytes=0-1,4-5", "bytes=a-b", "items=0-1", "bytes=-", "bytes", `bytes=0-${"1".repeat(300)}`]) {
    test(`Range ${header.slice(0, 20)} is none we serve: all of it with 200`, async () => {
      const response = await registry.admin.pullBlob(repository, blobDigest, { headers: { range: header } });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-range")).toBeNull();
      expect(await response.bytes()).toEqual(blob);
    });
  }

  test("If-Range: the part while the tag still fits, otherwise all of it", async () => {
    const ask = (value: string) =>
      registry.admin.pullBlob(repository, blobDigest, { headers: { range: "bytes=0-9", "if-range": value } });
    const fits = await ask(`"${blobDigest}"`);
    expect(fits.status).toBe(206);
    expect(await fits.bytes()).toEqual(blob.slice(0, 10));
    // A weak tag and a date promise no equal bytes.
    for (const value of [`"${absentDigest}"`, `W/"${blobDigest}"`, "Sat, 01 Jan 2028 00:00:00 GMT"]) {
      const response = await ask(value);
      expect(response.status, value).toBe(200);
      expect(await response.bytes()).toEqual(blob);
    }
  });

  test("the empty blob is pulled whole and has no ranges", async () => {
    const whole = await registry.admin.pullBlob(repository, emptyDigest);
    expect(whole.status).toBe(200);
    expect(whole.headers.get("content-length")).toBe("0");
    expect(await whole.bytes()).toHaveLength(0);
    for (const range of ["bytes=0-", "bytes=-1", "bytes=0-0"]) {
      const response = await registry.admin.pullBlob(repository, emptyDigest, { headers: { range } });
      expect(response.status).toBe(416);
      expect(response.headers.get("content-range")).toBe("bytes */0");
    }
  });

  test("a blob of another repository is unknown in this one", async () => {
    const elsewhere = fixedBytes(100, 99);
    await registry.admin.pushBlob("admin/elsewhere", elsewhere);
    for (const digest of [digestOf(elsewhere), absentDigest]) {
      const response = await registry.admin.pullBlob(repository, digest);
      expect(response.status).toBe(404);
      expect(await errorOf(response)).toMatchObject({ code: "BLOB_UNKNOWN", detail: { digest } });
    }
  });

  test("a large blob comes whole, also to ten readers at once", async () => {
    const large = fixedBytes(3 * 1024 * 1024 + 17, 11);
    const digest = digestOf(large);
    expect((await registry.admin.pushBlob(repository, large)).status).toBe(201);
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => registry.admin.pullBlob(repository, digest).then((found) => found.bytes())),
    );
    for (const bytes of answers) expect(digestOf(bytes)).toBe(digest);
  }, 30_000);
});
