import { describe, expect, test } from "bun:test";
import { compileLinearRegex } from "./linear-regex.ts";
import { PATTERN_LENGTH_MAX, PatternError } from "./regex-parser.ts";

/** Patterns that JavaScript's own engine takes too, so that it can be the judge. */
const patterns = [
  "v1",
  "^v\\d+\\.\\d+$",
  "(prod|stage)-.*",
  "release-[0-9]{4}-[a-f]{1,3}$",
  "a*b+c?d",
  "^(?:ab|cd)*$",
  "x{2,}",
  "[^-]+-[\\w.]+",
  "[]a]b".replace("[]", "[\\]"),
  "^$",
  "",
  "a|b|",
  "(a(b(c)?)?)?d",
  "\\w\\s\\W\\S\\D",
  "[a-c-]z",
  "\\.\\-\\+\\{",
  "(a|ab)(c|bcd)(d*)$",
  "^a{0}b$",
  "a*?b+?",
  "[\\d-]x",
  "[\\D]",
  ".",
];
const texts = ["", "v1", "v1.0", "V1", "prod-1", "stage-", "release-2024-abc", "release-24-a", "aaabbbcd", "bd", "abcd"]
  .concat(["cdab", "xx", "xxx", "x", "a-b", "-a", "a-", "]b", "ab", "abcbcdd", "d", "abd", "b_ 1", "-z", "cz", ".-+{"])
  .concat(["a \t!", "5x", "-x", "\n", "ü", "latest", "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"]);

for (const pattern of patterns) {
  test(`/${pattern}/ matches what the built-in engine matches`, () => {
    const ours = compileLinearRegex(pattern);
    const search = new RegExp(pattern);
    const match = new RegExp(`^(?:${pattern})`);
    for (const text of texts) {
      expect([text, ours.matchesAnywhere(text)]).toEqual([text, search.test(text)]);
      expect([text, ours.matchesStart(text)]).toEqual([text, match.test(text)]);
    }
  });
}

describe("patterns that take a backtracking engine for ever", () => {
  const cases: [pattern: string, text: string, matches: boolean][] = [
    ["^(a+)+$", `${"a".repeat(127)}!`, false],
    ["^(a|aa)+$", `${"a".repeat(127)}!`, false],
    ["^(a*)*b$", "a".repeat(128), false],
    ["(.*.*.*.*.*.*)=$", "a".repeat(128), false],
    ["^(a?){60}a{60}$", "a".repeat(60), true],
    // Many ways wait at once here.
    ["^((a|b|c|d|e|f|g|h)*(a|b|c|d|e|f|g|h)*(a|b|c|d|e|f|g|h)*)*!$", `${"abcdefgh".repeat(15)}!`, true],
    ["^(a?(a?(a?(a?(a?|b)|b)|b)|b)|b){8}!$", `${"a".repeat(30)}b!`, true],
    ["^(([a-z])+.)+[A-Z]([a-z])+$", "a".repeat(128), false],
  ];
  for (const [pattern, text, matches] of cases) {
    test(pattern, () => {
      const regex = compileLinearRegex(pattern);
      const started = performance.now();
      expect(regex.matchesStart(text)).toBe(matches);
      expect(performance.now() - started).toBeLessThan(250);
    });
  }
});

describe("refused with a reason", () => {
  const cases: [pattern: string, reason: string][] = [
    ["(a", '")" is missing'],
    ["a)", "closes no group"],
    ["*a", "repeats nothing"],
    ["{2}", "repeats nothing"],
    ["a**", "cannot be repeated"],
    ["a{2}{3}", "cannot be repeated"],
    ["^*", "anchor"],
    ["[a", '"]" is missing'],
    ["[z-a]", "range"],
    ["[\\d-z]", "range"],
    ["a\\", "backslash"],
    ["(a)\\1", '"\\1" is not supported'],
    ["\\bword", '"\\b" is not supported'],
    ["(?=a)", "look-around"],
    ["(?i)a", "flags"],
    ["(?P<name>a)", "names"],
    ["a{101}", "at most 100"],
    ["a{3,2}", "wrong way round"],
    ["((a{100}){100}){100}", "too complex"],
    ["(".repeat(21) + ")".repeat(21), "nested deeper"],
    ["a".repeat(PATTERN_LENGTH_MAX + 1), "at most 256"],
  ];
  for (const [pattern, reason] of cases) {
    test(pattern.slice(0, 40), () => {
      expect(() => compileLinearRegex(pattern)).toThrow(PatternError);
      expect(() => compileLinearRegex(pattern)).toThrow(reason);
    });
  }
});

test("random patterns agree with the built-in engine or are refused by both", () => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
  let state = seed;
  const random = (max: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * max);
  };
  const pieces = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    "(",
    ")",
    "(?:",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{0,2}",
    "^",
    "$",
    "\\d",
    "1",
  ];
  let compared = 0;
  for (let round = 0; round < 3000; round++) {
    const pattern = Array.from({ length: 1 + random(7) }, () => pieces[random(pieces.length)]).join("");
    let ours: ReturnType<typeof compileLinearRegex>;
    try {
      ours = compileLinearRegex(pattern);
    } catch {
      continue;
    }
    const theirs = new RegExp(pattern);
    for (let count = 0; count < 5; count++) {
      const text = Array.from({ length: random(6) }, () => "ab1"[random(3)]).join("");
      expect(ours.matchesAnywhere(text), `seed ${seed}: /${pattern}/ on "${text}"`).toBe(theirs.test(text));
      compared++;
    }
  }
  expect(compared).toBeGreaterThan(1000);
});
