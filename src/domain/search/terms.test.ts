import { describe, expect, test } from "bun:test";
import { namePrefixOf, nearness, termsOf } from "./terms.ts";

describe("the terms of a query", () => {
  for (const [query, terms] of [
    ["", []],
    ["  web  ", ["web"]],
    ["Web API-server", ["api-server", "web"]],
    ["web web", ["web"]],
    ["-web", ["web"]],
    ["...", []],
    ["a b c d e f g", ["a", "b", "c", "d", "e"]],
    ["acme/web", ["acme/web"]],
    ["we%", undefined],
    ["ünd", undefined],
    ["a\u0000b", undefined],
    ["x".repeat(513), undefined],
  ] as const) {
    test(`of ${JSON.stringify(query.slice(0, 20))}`, () => {
      expect(termsOf(query)).toEqual(terms as string[] | undefined);
    });
  }
});

describe("a beginning of names", () => {
  test("holds all that begin so and no others", () => {
    const range = namePrefixOf(" Dev ");
    expect(range?.prefix).toBe("dev");
    for (const name of ["dev", "dev-ops", "devz", "dev+robot"]) {
      expect([name, name >= (range?.prefix ?? "") && name < (range?.before ?? "")]).toEqual([name, true]);
    }
    for (const name of ["de", "dew", "~deleted"]) expect(name >= "dev" && name < (range?.before ?? "")).toBe(false);
  });
  test("is none for what no name begins with", () => {
    for (const text of ["", "+", "%", "_a", "ä", "a b", "a@b.c"]) expect(namePrefixOf(text)).toBeUndefined();
  });
});

test("nearness falls from the same name over its beginning and its words to none of these", () => {
  const scores = ["web", "web-api", "website-of-everything", "my-web", "else"].map((name) => nearness(name, "web"));
  expect(scores).toEqual([...scores].sort((a, b) => b - a));
  expect([scores[0], scores.at(-1)]).toEqual([1, 0.5]);
  expect(new Set(scores).size).toBe(scores.length);
});
