/** Signatures against the service's own documentation and against what Microsoft's client library made of the same input. */

import { describe, expect, test } from "bun:test";
import { blobSas, sharedKey, stringToSign } from "./sign.ts";

const key = "dGVzdGtleTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MA==";

describe("SharedKey", () => {
  test("signs headers by their places, its own by name, and the query by name", () => {
    const url = new URL(
      "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20",
    );
    const headers = { "x-ms-version": "2015-02-21", "x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT" };
    expect(stringToSign("myaccount", { method: "GET", url, headers })).toBe(
      "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n" +
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20",
    );
  });

  test("leaves a length of zero out, keeps the path encoded and decodes the query", () => {
    const url = new URL("https://a.blob.core.windows.net/c/a%20b?comp=block&blockid=QQ%3D%3D");
    const lines = (length: string) =>
      stringToSign("a", { method: "PUT", url, headers: { "content-length": length, "content-type": "x/y" } }).split(
        "\n",
      );
    expect(lines("0")[3]).toBe("");
    expect(lines("12")[3]).toBe("12");
    expect(lines("12")[5]).toBe("x/y");
    expect(lines("12").slice(-3)).toEqual(["/a/c/a%20b", "blockid:QQ==", "comp:block"]);
  });

  test("puts a header's name before the longer one that begins with it", () => {
    const headers = { "x-ms-copy-source-x": "2", "x-ms-copy-source": "1" };
    const text = stringToSign("a", { method: "PUT", url: new URL("https://h/c"), headers });
    expect(text).toEndWith("\nx-ms-copy-source:1\nx-ms-copy-source-x:2\n/a/c");
  });

  test("names the account's name twice where the address has it in its path", () => {
    const url = new URL("http://127.0.0.1:10000/testacct/c/b");
    expect(stringToSign("testacct", { method: "GET", url, headers: {} })).toEndWith("\n/testacct/testacct/c/b");
    expect(sharedKey("testacct", key, { method: "GET", url, headers: {} })).toMatch(
      /^SharedKey testacct:[A-Za-z0-9+/]{43}=$/,
    );
  });
});

describe("a SAS of one blob", () => {
  const given = {
    account: "testacct",
    key,
    container: "registry",
    blob: "storage/sha256/ab/abc d",
    expiresMs: Date.UTC(2026, 10, 23, 12, 0, 0, 999),
  };
  const signatureOf = (query: string) => new URLSearchParams(query).get("sig");

  test("is what the client library signs", () => {
    const query = blobSas({ ...given, httpsOnly: false });
    expect(signatureOf(query)).toBe("Eccc3yeIA4HlcTdUzxlkwo8xuobZVK0DfwJJMoKNwWk=");
    expect(Object.fromEntries(new URLSearchParams(query))).toMatchObject({
      sp: "r",
      sr: "b",
      se: "2026-11-23T12:00:00Z",
    });
  });

  test("covers the headers of the answer and the protocol", () => {
    const answer = {
      cacheControl: "private, max-age=31536000, immutable",
      contentDisposition: "attachment",
      contentType: "application/octet-stream",
    };
    const query = blobSas({ ...given, httpsOnly: true, answer });
    expect(signatureOf(query)).toBe("fCkn1Dd9UXP2I1c6ozEbILo/CuiVLdGLAnzHOooNlIE=");
    expect(query).not.toContain("+");
  });
});
