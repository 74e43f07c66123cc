import { expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { linkHeader, parsePage } from "./page.ts";

const RULES = { limitDefault: 50, limitMax: 100 };

test.each([
  [{}, 50, undefined],
  [{ n: "0" }, 0, undefined],
  [{ n: "1" }, 1, undefined],
  [{ n: "007" }, 7, undefined],
  [{ n: "100" }, 100, undefined],
  [{ n: "101" }, 100, undefined],
  [{ n: "1000000000000000000" }, 100, undefined],
  [{ n: "9".repeat(399) }, 100, undefined],
  [{ n: "3", last: "v1" }, 3, "v1"],
  [{ last: "" }, 50, undefined],
  [{ last: "__proto__" }, 50, "__proto__"],
  [{ last: "acme/api" }, 50, "acme/api"],
])("%j", (query, limit, last) => {
  expect(parsePage(query, RULES)).toEqual({ limit, last });
});

test.each([
  { n: "" },
  { n: "-1" },
  { n: "+1" },
  { n: "1.5" },
  { n: "1e18" },
  { n: "abc" },
  { n: "0x10" },
  { n: " 1" },
  { n: "1\n" },
  { n: "٣" },
  { n: "NaN" },
  { n: "Infinity" },
  { n: "9".repeat(100_000) },
  { last: "a\u0000b" },
  { last: "a b" },
  { last: "ä" },
  { last: "a\n" },
  { last: "x".repeat(513) },
])("refuses %j", (query) => {
  try {
    parsePage(query, RULES);
    throw new Error("was taken");
  } catch (error) {
    expect(error).toBeInstanceOf(RegistryError);
    expect((error as RegistryError).code).toBe("invalid_request");
    expect((error as RegistryError).message).toContain("expected");
    expect((error as RegistryError).message.length).toBeLessThan(200);
  }
});

test.each([
  ["/v2/acme/api/tags/list", { n: 2, last: "v2" }, '</v2/acme/api/tags/list?n=2&last=v2>; rel="next"'],
  ["/v2/_catalog", { n: 2, last: "acme/api" }, '</v2/_catalog?n=2&last=acme%2Fapi>; rel="next"'],
  [
    "/v2/a/referrers/sha256:00",
    { artifactType: "a/b+c&d", n: undefined },
    '</v2/a/referrers/sha256:00?artifactType=a%2Fb%2Bc%26d>; rel="next"',
  ],
  ["/x>; rel=x, <y\r\n\ud800", {}, '</x%3E;%20rel=x,%20%3Cy%0D%0A%EF%BF%BD>; rel="next"'],
  ["/x", { last: '>"\r\n' }, '</x?last=%3E%22%0D%0A>; rel="next"'],
])("links %j with %j", (path, params, header) => {
  expect(linkHeader(path, params)).toBe(header);
});
