/** Signatures against the examples that AWS publishes: the S3 API reference, "Examples: Signature Calculations". */

import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { accessKeyOf, encodeKey, encodeRfc3986, Signer, sha256Hex, unsignedPayload } from "./sign.ts";

const example = { accessKeyId: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" };
const startMs = Date.UTC(2013, 4, 24);
const bucket = "https://examplebucket.s3.amazonaws.com";

function signer(more: { sessionToken?: string; region?: string } = {}, nowMs = startMs): Signer {
  const { region = "us-east-1", ...keys } = more;
  return new Signer({
    region,
    service: "s3",
    credentials: async () => ({ ...example, ...keys }),
    clock: { nowMs: () => nowMs },
  });
}

interface Example {
  readonly method: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly signed: string;
  readonly signature: string;
}

const examples: [string, Example][] = [
  [
    "GET of a range",
    {
      method: "GET",
      path: "/test.txt",
      headers: { range: "bytes=0-9" },
      signed: "host;range;x-amz-content-sha256;x-amz-date",
      signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    },
  ],
  [
    "GET with a query without a value",
    {
      method: "GET",
      path: "/?lifecycle",
      signed: "host;x-amz-content-sha256;x-amz-date",
      signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    },
  ],
  [
    "GET with a query",
    {
      method: "GET",
      path: "/?max-keys=2&prefix=J",
      signed: "host;x-amz-content-sha256;x-amz-date",
      signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    },
  ],
];

test.each(examples)("%s is signed as published", async (_name, { method, path, headers = {}, ...wanted }) => {
  const url = new URL(path, bucket);
  const sent = await signer().sign({ method, url, headers, payloadHash: sha256Hex("") });
  expect(sent.authorization).toBe(
    `AWS4-HMAC-SHA256 Credential=${example.accessKeyId}/20130524/us-east-1/s3/aws4_request, SignedHeaders=${wanted.signed}, Signature=${wanted.signature}`,
  );
  expect(sent["x-amz-date"]).toBe("20130524T000000Z");
  // fetch sets it by the URL, and refuses to be told.
  expect(sent.host).toBeUndefined();
  expect(accessKeyOf(sent)).toBe(example.accessKeyId);
});

/** The signature of a PUT, step by step as the reference has it. */
function signatureOfPut(path: string, headers: Record<string, string>, payloadHash: string): string {
  const names = Object.keys(headers).sort();
  const lines = names.map((name) => `${name}:${headers[name]}\n`).join("");
  const canonical = ["PUT", path, "", lines, names.join(";"), payloadHash].join("\n");
  const scope = "20130524/us-east-1/s3/aws4_request";
  const text = ["AWS4-HMAC-SHA256", "20130524T000000Z", scope, sha256Hex(canonical)].join("\n");
  const hmac = (key: string | Buffer, data: string) => createHmac("sha256", key).update(data).digest();
  const key = scope.split("/").reduce<string | Buffer>(hmac, `AWS4${example.secretAccessKey}`);
  return hmac(key, text).toString("hex");
}

test("PUT of a body, under a key with an odd character", async () => {
  const payloadHash = sha256Hex("Welcome to Amazon S3.");
  const url = new URL(`/${encodeKey("test$file.text")}`, bucket);
  const storageClass = { "x-amz-storage-class": "REDUCED_REDUNDANCY" };
  const known = { host: url.host, "x-amz-content-sha256": payloadHash, "x-amz-date": "20130524T000000Z" };
  // The published example signs a Date too, which our library leaves out because x-amz-date says the same.
  const date = { date: "Fri, 24 May 2013 00:00:00 GMT" };
  expect(signatureOfPut(url.pathname, { ...known, ...storageClass, ...date }, payloadHash)).toBe(
    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
  );
  const sent = await signer().sign({ method: "PUT", url, headers: storageClass, payloadHash });
  expect(sent.authorization).toEndWith(signatureOfPut(url.pathname, { ...known, ...storageClass }, payloadHash));
});

describe("a presigned URL", () => {
  test("is the published one", async () => {
    const url = await signer().presign("GET", new URL("/test.txt", bucket), 86_400);
    expect(url.startsWith(`${bucket}/test.txt?`)).toBe(true);
    expect(Object.fromEntries(new URL(url).searchParams)).toEqual({
      "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
      "X-Amz-Credential": `${example.accessKeyId}/20130524/us-east-1/s3/aws4_request`,
      "X-Amz-Date": "20130524T000000Z",
      "X-Amz-Expires": "86400",
      "X-Amz-SignedHeaders": "host",
      "X-Amz-Signature": "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    });
  });

  test("names the session's token, is good for one method and holds no secret", async () => {
    const session = signer({ sessionToken: "token/with+odd=characters" });
    const [get, head] = await Promise.all(
      ["GET", "HEAD"].map((method) => session.presign(method, new URL("/a", bucket), 60)),
    );
    const queries = [get, head].map((url) => new URL(url ?? "").searchParams);
    for (const query of queries) expect(query.get("X-Amz-Security-Token")).toBe("token/with+odd=characters");
    expect(queries[0]?.get("X-Amz-Signature")).not.toBe(queries[1]?.get("X-Amz-Signature"));
    expect(get).not.toContain(example.secretAccessKey);
    expect(get).toContain("X-Amz-Security-Token=token%2Fwith%2Bodd%3Dcharacters");
  });

  test("keeps what the answer's headers are to be", async () => {
    const url = new URL("/a?response-content-disposition=attachment%3B%20filename%3D%22a%20b%22", bucket);
    const signed = new URL(await signer().presign("GET", url, 60));
    expect(signed.searchParams.get("response-content-disposition")).toBe('attachment; filename="a b"');
    expect(signed.search).not.toContain("+");
  });
});

test("signs by the server's time once it is known", async () => {
  const behind = signer({}, startMs - 3_600_000);
  behind.setServerTime(startMs);
  const url = new URL("/?max-keys=2&prefix=J", bucket);
  const sent = await behind.sign({ method: "GET", url, headers: {}, payloadHash: sha256Hex("") });
  expect(sent.authorization).toEndWith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
});

test("sends a session's token as a signed header, and says of a body that TLS protects that it is not signed", async () => {
  const request = { method: "PUT", url: new URL("/a", bucket), headers: {}, payloadHash: unsignedPayload };
  const sent = await signer({ sessionToken: "session" }).sign(request);
  expect(sent["x-amz-security-token"]).toBe("session");
  expect(sent["x-amz-content-sha256"]).toBe("UNSIGNED-PAYLOAD");
  expect(sent.authorization).toContain(";x-amz-security-token,");
});

test("the host is signed with its port, and an IPv6 address in brackets", async () => {
  const signatures = await Promise.all(
    ["http://[::1]:9000/b/k", "http://[::1]:9001/b/k", "http://[::1]/b/k"].map(async (address) => {
      const url = new URL(address);
      return (await signer().sign({ method: "GET", url, headers: {}, payloadHash: sha256Hex("") })).authorization;
    }),
  );
  expect(new Set(signatures).size).toBe(3);
});

const keys: [string, string][] = [
  ["sha256/ab/abcd", "sha256/ab/abcd"],
  ["a b/c+d", "a%20b/c%2Bd"],
  ["it's (new)!*", "it%27s%20%28new%29%21%2A"],
  ["~-_.", "~-_."],
  ["100%/50%25", "100%25/50%2525"],
  ["ключ/é/😀", "%D0%BA%D0%BB%D1%8E%D1%87/%C3%A9/%F0%9F%98%80"],
  ["a?b#c&d=e:f@g,h;i", "a%3Fb%23c%26d%3De%3Af%40g%2Ch%3Bi"],
  ["", ""],
];
test.each(keys)("the key %p is written as %p and survives a URL", (key, written) => {
  expect(encodeKey(key)).toBe(written);
  expect(new URL(`${bucket}/${encodeKey(key)}`).pathname).toBe(`/${written}`);
  expect(decodeURIComponent(encodeRfc3986(key))).toBe(key);
});
