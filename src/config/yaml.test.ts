import { expect, test } from "bun:test";
import { ConfigError } from "./error.ts";
import { parseConfigYaml } from "./yaml.ts";

const broken: [name: string, text: string, line: number][] = [
  ["a list that never ends", "A: 1\nB: [1,\nC: 2\nD: 3\n", 2],
  ["wrong indentation", "A: 1\nB:\n  c: 1\n d: 2\nE: 3\n", 4],
  ["a tab", "A: 1\nB:\n\tc: 1\n", 3],
  ["two colons", "# comment\n\nA: 1\nB: c: d\n", 4],
  ["a placeholder left in", "A: 1\nB: @HOST@\n", 2],
  ["an anchor that is not there", "A: 1\nB: *base\n", 2],
  ["broken from the start", "{\n", 1],
];
for (const [name, text, line] of broken) {
  test(`${name} is found in line ${line}`, () => {
    expect(() => parseConfigYaml(text, "config.yaml")).toThrow(`cannot read "config.yaml" as YAML: line ${line}: `);
  });
}

for (const text of ["- a\n", "just text", "12", "A: 1\n---\nB: 2\n"]) {
  test(`${JSON.stringify(text)} is no block of keys`, () => {
    expect(() => parseConfigYaml(text, "config.yaml")).toThrow(ConfigError);
  });
}

for (const text of ["", "# nothing set\n", "---\n", "{}"]) {
  test(`${JSON.stringify(text)} sets nothing`, () => expect(parseConfigYaml(text, "f").values.size).toBe(0));
}

test("a key that is set twice is reported with its lines", () => {
  const { values, warnings } = parseConfigYaml("A: 1\nB:\n  A: 2\nA: 3\n", "config.yaml");
  expect(values.get("A")).toBe(3);
  expect(warnings).toEqual(["config.yaml sets A twice, in lines 1 and 4; the last one counts"]);
});
