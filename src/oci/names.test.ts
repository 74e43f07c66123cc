import { describe, expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import {
  findRobotName,
  isValidEmail,
  parseEmail,
  parseNamespaceName,
  parsePassword,
  parseRepositoryName,
  parseRepositoryPath,
  parseRobotName,
  parseRobotShortName,
  parseTeamName,
  parseUsername,
} from "./names.ts";

function refusal(work: () => unknown): RegistryError {
  try {
    work();
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  throw new Error("was taken");
}

describe("parseRepositoryPath", () => {
  test.each([
    ["acme/api", "acme", "api"],
    ["acme/api/v2/worker", "acme", "api/v2/worker"],
    ["ab/a", "ab", "a"],
    ["a.b-c_d/x", "a.b-c_d", "x"],
    ["acme/a__b--c.d", "acme", "a__b--c.d"],
    ["acme/trailing.", "acme", "trailing."],
    ["acme/1..2", "acme", "1..2"],
    ["acme/a/_b/-c/.d", "acme", "a/_b/-c/.d"],
    ["acme/manifests/blobs/uploads", "acme", "manifests/blobs/uploads"],
    [`${"n".repeat(255)}/${"x".repeat(255)}`, "n".repeat(255), "x".repeat(255)],
    ["constructor/tostring", "constructor", "tostring"],
  ])("takes %s", (text, namespace, name) => {
    const parsed = parseRepositoryPath(text, { extended: true });
    expect<unknown>(parsed).toEqual({ path: text, namespace, name });
  });

  test.each([
    "",
    "/",
    "acme",
    "acme/",
    "/api",
    "a/api",
    "Acme/api",
    "acme/Api",
    "acme/api/",
    "acme//api",
    "acme/../api",
    "acme/api/..",
    "acme/./api",
    "acme/..",
    "acme/.hidden",
    "acme/-x",
    "acme/_x",
    "acme/a b",
    "acme/a\u0000b",
    "acme/api\n",
    "acme\n/api",
    "acme/ä",
    "acme/a%2fb",
    "acme/a\\b",
    "acme/a:b",
    "acme/a+b",
    "acme+robot/a",
    "a__b/x",
    "-acme/x",
    "__proto__/x",
    `acme/${"x".repeat(256)}`,
    `${"n".repeat(256)}/x`,
    `acme/${"a/".repeat(100_000)}`,
  ])("refuses %j", (text) => {
    const error = refusal(() => parseRepositoryPath(text, { extended: true }));
    expect(error.code).toBe("name_invalid");
    expect(error.message).toStartWith("Invalid repository name: ");
    expect(error.message.length).toBeLessThan(130);
    expect(error.message).not.toMatch(/\p{Cc}/u);
    expect(error.detail.reason).toBeString();
  });

  test("keeps Quay's text as it is", () => {
    expect(refusal(() => parseRepositoryPath("acme/Api", { extended: true })).message).toBe(
      "Invalid repository name: acme/Api",
    );
  });

  test("refuses nested names when they are switched off, in Quay's words", () => {
    expect(parseRepositoryPath("acme/api", { extended: false }).name as string).toBe("api");
    const error = refusal(() => parseRepositoryPath("acme/api/v2", { extended: false }));
    expect(error.code).toBe("name_invalid");
    expect(error.message).toBe("Nested repositories are not supported. Found: api/v2");
    expect(refusal(() => parseRepositoryName("api/v2", { extended: false })).message).toBe(error.message);
  });

  test("puts names without namespace into the library when there is one", () => {
    const parsed = parseRepositoryPath("alpine", { libraryNamespace: "library", extended: true });
    expect<unknown>(parsed).toEqual({ path: "library/alpine", namespace: "library", name: "alpine" });
    expect(refusal(() => parseRepositoryPath("..", { libraryNamespace: "library", extended: true })).code).toBe(
      "name_invalid",
    );
    expect(refusal(() => parseRepositoryPath("", { libraryNamespace: "library", extended: true })).code).toBe(
      "name_invalid",
    );
  });
});

describe("account names", () => {
  const length = "Namespace must be between 2 and 255 characters in length";
  const expression = "Namespace must match expression ^([a-z0-9]+(?:[._-][a-z0-9]+)*)$";
  test.each([
    ["", length],
    ["a", length],
    ["a".repeat(256), length],
    ["Ab", expression],
    ["a b", expression],
    ["a..b", expression],
    ["ab-", expression],
    ["_ab", expression],
    ["ab\n", expression],
    ["a+b", expression],
    ["ab\u0000", expression],
    [`${"a-".repeat(127)}!`, expression],
  ])("refuses %j", (text, reason) => {
    const error = refusal(() => parseNamespaceName(text));
    expect(error.code).toBe("name_invalid");
    expect(error.message).toStartWith("Invalid namespace ");
    expect(error.message).toEndWith(reason);
    expect(refusal(() => parseUsername(text)).message).toBe(error.message);
    expect(refusal(() => parseTeamName(text)).message).toStartWith("Invalid team name ");
    expect(refusal(() => parseRobotShortName(text)).message).toStartWith("The name for the robot '");
  });

  test.each(["ab", "a1", "a.b_c-d", "a".repeat(255)])("takes %s", (text) => {
    expect(parseNamespaceName(text) as string).toBe(text);
    expect(parseTeamName(text)).toBe(text);
    expect(parseRobotShortName(text)).toBe(text);
  });

  test("splits robot names", () => {
    expect<unknown>(parseRobotName("acme+ci")).toEqual({ robot: "acme+ci", namespace: "acme", shortName: "ci" });
  });

  test.each(["acme", "+ci", "acme+", "acme+c+i", "acme+C", "acme ci", "a+ci", `acme+${"x".repeat(600)}`])(
    "refuses robot %j",
    (text) => {
      expect(findRobotName(text)).toBeUndefined();
      expect(refusal(() => parseRobotName(text)).message).toEndWith(" is an invalid robot name");
    },
  );
});

test.each([
  ["a@b.c", true],
  ["first.last+tag@mail.example.org", true],
  ["a@b", false],
  ["a@.b", false],
  ["a@b.", false],
  ["a@...", true],
  ["@b.c", false],
  ["a@b@c.d", false],
  ["a@b.c\r\nBcc: x@y.z", false],
  ["a b@c.d", false],
  ["", false],
  [`${"a".repeat(250)}@b.cd`, true],
  [`${"a".repeat(251)}@b.cd`, false],
])("e-mail %j is valid: %p", (text, valid) => {
  expect(isValidEmail(text)).toBe(valid);
  if (valid) expect(parseEmail(text)).toBe(text);
  else expect(refusal(() => parseEmail(text)).message).toStartWith("Invalid email address: ");
});

test.each([
  ["12345678", true],
  ["1234567", false],
  ["1234 5678", false],
  ["12345678\t", false],
  ["😀😀😀😀", false],
  ["😀😀😀😀😀😀😀😀", true],
  ["", false],
])("password %j is taken: %p", (text, taken) => {
  if (taken) {
    expect(parsePassword(text)).toBe(text);
    return;
  }
  const error = refusal(() => parsePassword(text));
  expect(error.message).toBe("Invalid password, password must be at least 8 characters and contain no whitespace.");
  expect(error.detail).toEqual({});
});
