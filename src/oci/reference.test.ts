import { expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { digestOf } from "./digest.ts";
import { fallbackTag, findTag, formatReference, isTag, parseReference, parseTag } from "./reference.ts";

test.each(["latest", "v1.0", "_x", "A", "0", "a".repeat(128), "a..b", "a--", "__proto__"])("takes tag %s", (text) => {
  expect(parseTag(text) as string).toBe(text);
  expect<unknown>(parseReference(text)).toEqual({ kind: "tag", tag: text });
  expect(formatReference(parseReference(text))).toBe(text);
});

test.each(["", ".x", "-x", "a".repeat(129), "a b", "a/b", "a+b", "ä", "a\n", "\u0000", "a%20", "$temp-1"])(
  "refuses tag %j in Quay's words",
  (text) => {
    expect(isTag(text)).toBe(false);
    expect(findTag(text)).toBeUndefined();
    try {
      parseReference(text);
      throw new Error("was taken");
    } catch (error) {
      expect(error).toBeInstanceOf(RegistryError);
      expect((error as RegistryError).code).toBe("tag_invalid");
      expect((error as RegistryError).message).toBe(
        'Invalid tag: must match [A-Za-z0-9_.-], NOT start with "." or "-", and can contain 1-128 characters',
      );
    }
  },
);

test("takes anything with a colon for a digest", () => {
  const digest = digestOf("x");
  expect(parseReference(digest)).toEqual({ kind: "digest", digest });
  for (const text of ["sha256:baddigeststring", "a:b", ":", `${digest.toUpperCase()}`]) {
    expect(() => parseReference(text)).toThrow("invalid digest");
  }
});

test("names the fallback tag of a subject, cut for sha512", () => {
  const sha256 = digestOf("x", "sha256");
  const sha512 = digestOf("x", "sha512");
  expect(fallbackTag(sha256) as string).toBe(sha256.replace(":", "-"));
  expect(fallbackTag(sha512) as string).toBe(sha512.replace(":", "-").slice(0, "sha512-".length + 64));
  expect(isTag(fallbackTag(sha512))).toBe(true);
});
