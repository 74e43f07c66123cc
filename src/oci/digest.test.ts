import { describe, expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import {
  createHasher,
  type Digest,
  digestAlgorithm,
  digestHex,
  digestOf,
  EMPTY_SHA256,
  findDigest,
  isDigestLike,
  parseDigest,
} from "./digest.ts";

const SHA256 = `sha256:${"a1".repeat(32)}`;
const SHA512 = `sha512:${"0f".repeat(64)}`;

describe("parseDigest", () => {
  test.each([SHA256, SHA512])("takes %s", (text) => {
    expect(parseDigest(text) as string).toBe(text);
    expect(findDigest(text) as string).toBe(text);
    expect(isDigestLike(text)).toBe(true);
  });

  test.each([
    ["", 'expected an algorithm, ":"'],
    ["latest", 'expected an algorithm, ":"'],
    [":abc", 'expected an algorithm, ":"'],
    [`sha256:${"a".repeat(63)}`, "sha256 takes 64 hex digits, got 63"],
    [`sha256:${"a".repeat(65)}`, "sha256 takes 64 hex digits, got 65"],
    [`sha256:${"a".repeat(128)}`, "sha256 takes 64 hex digits, got 128"],
    [`sha512:${"a".repeat(64)}`, "sha512 takes 128 hex digits, got 64"],
    [`sha256:${"A".repeat(64)}`, "must be lower case"],
    [`sha256:${"g".repeat(64)}`, "lower-case hex digits (0-9, a-f)"],
    [`sha256:${"a".repeat(63)}\n`, "lower-case hex digits"],
    [`${SHA256}\n`, "got 65"],
    [` ${SHA256}`, "is not supported"],
    [`SHA256:${"a".repeat(64)}`, 'written in lower case, "sha256"'],
    [`md5:${"a".repeat(32)}`, 'algorithm "md5" is not supported, use sha256 or sha512'],
    [`sha384:${"a".repeat(96)}`, "is not supported"],
    ["__proto__:00", "is not supported"],
    ["constructor:00", "is not supported"],
    [`sha256:${"\u0000".repeat(64)}`, "\\x00"],
  ])("refuses %j and says why", (text, reason) => {
    let caught: unknown;
    try {
      parseDigest(text);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(RegistryError);
    expect((caught as RegistryError).code).toBe("digest_invalid");
    expect((caught as RegistryError).message).toContain(reason);
    expect((caught as RegistryError).message).not.toMatch(/\p{Cc}/u);
    expect(findDigest(text)).toBeUndefined();
  });

  test("shows at most 100 characters of a long value", () => {
    try {
      parseDigest("x".repeat(1_000_000));
      throw new Error("taken");
    } catch (error) {
      expect((error as Error).message.length).toBeLessThan(250);
    }
  });
});

test.each([
  ["latest", false],
  ["v1.0-rc_1", false],
  ["sha256:", false],
  [":00", false],
  ["sha256:zz", true],
  ["sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", true],
  ["MD5:00", true],
  ["a:b:c", false],
  ["sha256:00\n", false],
])("the shape of %j is a digest's: %p", (text, expected) => {
  expect(isDigestLike(text)).toBe(expected);
});

describe("hashers", () => {
  test("agree with known values", () => {
    expect(digestOf(new Uint8Array(0))).toBe(EMPTY_SHA256);
    expect(digestOf("abc") as string).toBe("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(digestHex(digestOf("abc", "sha512"))).toStartWith("ddaf35a193617abacc417349ae204131");
  });

  test.each(["sha256", "sha512"] as const)("%s in chunks gives the digest of the whole", (algorithm) => {
    const bytes = crypto.getRandomValues(new Uint8Array(10_000));
    const hasher = createHasher(algorithm);
    for (let start = 0; start < bytes.length; start += 777) hasher.update(bytes.subarray(start, start + 777));
    expect(hasher.digest()).toBe(digestOf(bytes, algorithm));
    expect(parseDigest(hasher.digest())).toBe(hasher.digest());
    expect(digestAlgorithm(hasher.digest())).toBe(algorithm);
  });

  test("can be asked in between and go on", () => {
    const hasher = createHasher("sha256");
    expect(hasher.digest()).toBe(EMPTY_SHA256);
    hasher.update(Buffer.from("ab"));
    const first: Digest = hasher.digest();
    expect(hasher.digest()).toBe(first);
    hasher.update(Buffer.from("c"));
    expect(hasher.digest()).toBe(digestOf("abc"));
  });
});
