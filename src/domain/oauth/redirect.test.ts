import { describe, expect, test } from "bun:test";
import { isAllowedRedirect, requireRegistrable, withFields } from "./redirect.ts";

describe("a redirect_uri", () => {
  const site = "https://good.example/app";
  const cases: readonly [registered: string, asked: string, allowed: boolean][] = [
    [site, "https://good.example/app", true],
    [site, "https://good.example/app/", true],
    [site, "https://good.example/app/done", true],
    [site, "https://good.example/app?page=1", true],
    [site, "https://good.example/app?code=planted", false],
    [site, "https://good.example/app?page=1&%73tate=planted", false],
    [site, "https://good.example/app/done?x=a/../b", true],
    ["https://good.example", "https://good.example", true],
    ["https://good.example", "https://good.example/", true],
    ["https://good.example/", "https://good.example/any/where", true],
    ["https://good.example/app/", "https://good.example/app", true],
    ["https://good.example/cb?fixed=1", "https://good.example/cb?fixed=1", true],
    ["https://Good.example/app", "https://good.example/app", true],
    ["https://good.example:443/app", "https://good.example/app", true],
    ["http://127.0.0.1:8000/cb", "http://127.0.0.1:8000/cb", true],
    ["http://[::1]:8000/cb", "http://[::1]:8000/cb", true],
    // The text begins the same, the address is another.
    ["https://good.example", "https://good.example.evil", false],
    ["https://good.example", "https://good.example.evil/", false],
    ["https://good.example", "https://good.example@evil.example", false],
    ["https://good.example", "https://good.example:8443", false],
    ["https://good.example", "https://good.example:443@evil.example/", false],
    ["https://good.example", "https://user:pw@good.example", false],
    ["https://good.example", "https://@good.example", false],
    [site, "https://good.example/apparent", false],
    [site, "https://good.example/app.evil", false],
    [site, "https://good.example/APP", false],
    [site, "http://good.example/app", false],
    [site, "https://evil.example/app", false],
    [site, "https://sub.good.example/app", false],
    [site, "https://good.example/app/../evil", false],
    [site, "https://good.example/app/./x", false],
    [site, "https://good.example/app/%2e%2e/evil", false],
    [site, "https://good.example/app/%2E./evil", false],
    [site, "https://good.example/app%2f..%2fevil", false],
    [site, "https://good.example/app/..%5cevil", false],
    [site, "https://good.example/app\\..\\evil", false],
    [site, "https://good.example//app", false],
    [site, "https://good.example/app//evil.example", false],
    [site, "https://good.example/app#fragment", false],
    [site, "https://good.example/app#", false],
    [site, "//good.example/app", false],
    [site, "/app", false],
    [site, "app", false],
    [site, "", false],
    [site, "https:good.example/app", false],
    [site, "https:/good.example/app", false],
    [site, "https:\\\\good.example\\app", false],
    [site, "https://good.example\\@evil.example/app", false],
    [site, " https://good.example/app", false],
    [site, "https://good.example/app\n", false],
    [site, "https://good.example/app\r\nSet-Cookie: a=b", false],
    [site, "https://good.ex\tample/app", false],
    [site, "https://good。example/app", false],
    [site, "https://good.example/app/\u0000", false],
    [site, "https://good.example/app/%00", false],
    [site, "javascript:alert(1)//https://good.example/app", false],
    [site, "data:text/html,https://good.example/app", false],
    [site, "HTTPS://good.example/app", false],
    [site, `https://good.example/app/${"a".repeat(2000)}`, false],
    ["https://good.example/cb?fixed=1", "https://good.example/cb", false],
    ["https://good.example/cb?fixed=1", "https://good.example/cb?fixed=1&more=1", false],
    // An application that registered nothing, or nonsense.
    ["", "https://good.example/app", false],
    ["", "", false],
    ["https://", "https://good.example/app", false],
    ["javascript:alert(1)", "javascript:alert(1)", false],
    ["com.example.app:/cb", "com.example.app:/cb", false],
  ];
  test.each(cases)("%j lets %j through: %p", (registered, asked, allowed) => {
    expect(isAllowedRedirect(registered, asked)).toBe(allowed);
  });
});

test("an application registers an absolute web address or nothing", () => {
  for (const uri of ["", "https://good.example", "http://localhost:8000/cb?x=1"]) requireRegistrable(uri);
  for (const uri of [
    "good.example",
    "/cb",
    "https://a@b",
    "https://a/#f",
    "https://a/../b",
    "javascript:1",
    "ftp://a",
  ]) {
    expect(() => requireRegistrable(uri)).toThrow(/redirect_uri/);
  }
});

test("fields go behind a query that is there, and into the fragment as they are", () => {
  expect(withFields("https://a/cb", "query", { code: "x y", state: undefined })).toBe("https://a/cb?code=x+y");
  expect(withFields("https://a/cb?k=1", "query", { code: "c", state: "a&b=#" })).toBe(
    "https://a/cb?k=1&code=c&state=a%26b%3D%23",
  );
  expect(withFields("https://a/cb", "fragment", { access_token: "t" })).toBe("https://a/cb#access_token=t");
});
