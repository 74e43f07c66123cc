import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, verify } from "node:crypto";
import { type CloudFrontOptions, CloudFrontSigner, cannedPolicy } from "./cloudfront.ts";

const pair = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs1", format: "pem" },
});
const nowMs = Date.UTC(2026, 0, 1, 12, 0, 0, 999);
const key = `sha256/ab/${"ab".repeat(32)}`;

function signer(more: Partial<CloudFrontOptions> = {}): CloudFrontSigner {
  return new CloudFrontSigner({
    domain: "d111111abcdef8.cloudfront.net",
    domains: { acme: "acme.example.com" },
    keyId: "K2JCJMDEHXQW5F",
    privateKey: pair.privateKey,
    clock: { nowMs: () => nowMs },
    ...more,
  });
}

/** What CloudFront does: makes the policy of the URL without the three signing parameters, and verifies it. */
function holds(url: string): boolean {
  const { searchParams, origin, pathname } = new URL(url);
  const base64 = (searchParams.get("Signature") ?? "").replace(
    /[-_~]/g,
    (char) => ({ "-": "+", _: "=", "~": "/" })[char] ?? "",
  );
  const policy = cannedPolicy(`${origin}${pathname}`, Number(searchParams.get("Expires")));
  return verify("RSA-SHA1", Buffer.from(policy), pair.publicKey, Buffer.from(base64, "base64"));
}

test("the policy is the published text, to the blank", () => {
  expect(cannedPolicy("https://d111111abcdef8.cloudfront.net/horizon.jpg", 1_357_034_400)).toBe(
    '{"Statement":[{"Resource":"https://d111111abcdef8.cloudfront.net/horizon.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1357034400}}}]}',
  );
});

test("a URL names the object, ends when it should and is signed by the key", () => {
  const url = signer().url(key, undefined, 600);
  const { searchParams, origin, pathname } = new URL(url);
  expect(origin + pathname).toBe(`https://d111111abcdef8.cloudfront.net/${key}`);
  expect([...searchParams.keys()]).toEqual(["Expires", "Signature", "Key-Pair-Id"]);
  expect(searchParams.get("Expires")).toBe(String(Math.floor(nowMs / 1000) + 600));
  expect(searchParams.get("Key-Pair-Id")).toBe("K2JCJMDEHXQW5F");
  expect(searchParams.get("Signature")).toMatch(/^[A-Za-z0-9~_-]+$/);
  expect(holds(url)).toBe(true);
});

test("another object, another end or another key makes another signature", () => {
  const url = signer().url(key, undefined, 600);
  expect(holds(url.replace("sha256/ab/ab", "sha256/ab/ac"))).toBe(false);
  expect(holds(url.replace(/Expires=\d+/, "Expires=4102444800"))).toBe(false);
  const foreign = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const privateKey = foreign.export({ type: "pkcs8", format: "pem" }).toString();
  expect(holds(signer({ privateKey }).url(key, undefined, 600))).toBe(false);
});

test("some namespaces have a domain of their own", () => {
  const own = signer();
  expect(new URL(own.url(key, "acme", 60)).host).toBe("acme.example.com");
  expect(holds(own.url(key, "acme", 60))).toBe(true);
  for (const namespace of ["other", "ACME", "toString", "constructor", ""]) {
    expect(new URL(own.url(key, namespace, 60)).host).toBe("d111111abcdef8.cloudfront.net");
  }
});

describe("is refused without a word of the key", () => {
  const elliptic = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const wrong: [string, Partial<CloudFrontOptions>, string][] = [
    ["no key", { privateKey: "planted-secret" }, "no private key in PEM"],
    ["a public key", { privateKey: pair.publicKey }, "no private key in PEM"],
    [
      "another kind of key",
      { privateKey: elliptic.export({ type: "pkcs8", format: "pem" }).toString() },
      "must be an RSA key and is ec",
    ],
    ["a domain with a scheme", { domain: "https://d1.cloudfront.net" }, "must be a domain without a scheme"],
    ["a namespace's domain with a path", { domains: { acme: "d1.cloudfront.net/x" } }, "must be a domain"],
  ];
  test.each(wrong)("%s", (_name, options, message) => {
    expect(() => signer(options)).toThrow(message);
    expect(() => signer(options)).not.toThrow("planted-secret");
  });
});
