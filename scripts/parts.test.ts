/** How the output of `bun test` is counted: from its real text, and from runs of it on small files made here. */
import { afterAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeTempDir } from "../test/support/temp-dir.ts";
import { closingLine, describeOutcome, judge, type Part, runPart, runParts } from "./parts.ts";

const dir = makeTempDir("parts");
afterAll(() => dir.remove());

function testPart(name: string, text: string, timeoutSeconds = 30): Part {
  const file = join(dir.path, `${name}.test.ts`);
  writeFileSync(file, `import { expect, test } from "bun:test";\n${text}\n`);
  return { name, command: [process.execPath, "test", file], isTest: true, timeoutSeconds };
}

describe("a summary is read", () => {
  const cases: [string, string, number, [number, number, number]][] = [
    [
      "all passed",
      " 849 pass\n 0 fail\n 72174 expect() calls\nRan 849 tests across 24 files. [5.69s]\n",
      0,
      [849, 0, 0],
    ],
    ["some failed", " 5 pass\n 2 fail\nRan 7 tests across 1 file.\n", 1, [5, 2, 0]],
    ["some skipped", " 5 pass\n 1 skip\n 2 todo\n 0 fail\n", 0, [5, 0, 3]],
    ["no test ran", " 0 pass\n 0 fail\nRan 0 tests across 1 file.\n", 0, [0, 1, 0]],
    ["all were skipped", " 0 pass\n 4 skip\n 0 fail\n", 0, [0, 1, 4]],
    ["all need Go", "not run: needs Go (to install x)\n 0 pass\n 4 skip\n 0 fail\n", 0, [0, 0, 4]],
    ["Go could not build it", "not run: go install x failed\n 0 pass\n 4 skip\n 0 fail\n", 0, [0, 1, 4]],
    ["nothing was printed", "", 1, [0, 1, 0]],
    ["the process died after passing", " 3 pass\n 0 fail\n", 1, [3, 1, 0]],
    ["an error between tests", " 3 pass\n 0 fail\n 1 error\n", 1, [3, 1, 0]],
    ["a test printed a summary of its own", " 1 pass\n 9 fail\n(pass) inner\n 4 pass\n 0 fail\n", 0, [4, 0, 0]],
  ];
  for (const [name, output, code, [passed, failed, skipped]] of cases) {
    test(name, () => expect(judge(true, code, output)).toMatchObject({ passed, failed, skipped }));
  }

  test("and what was not run is told once", () => {
    const output = "(pass) a\n[crane] not run: needs Go (to install x)\nnot run: needs Go (to install x)\n 1 pass\n";
    expect(judge(true, 0, output).notes).toEqual(["not run: needs Go (to install x)"]);
  });
});

test("a check counts as one", () => {
  expect(judge(false, 0, "")).toMatchObject({ passed: 1, failed: 0 });
  expect(judge(false, 2, "")).toMatchObject({ passed: 0, failed: 1 });
});

test("real runs are counted, the failing one is shown whole and the passing one is a line", async () => {
  const parts = [
    testPart("good", 'test("a", () => {}); test.skip("b", () => {});'),
    testPart("bad", 'test("a", () => {}); test("names its fault", () => expect("left").toBe("right"));'),
    testPart("empty", ""),
  ];
  const seen: string[] = [];
  const outcomes = await runParts(parts, 2, (outcome) => seen.push(describeOutcome(outcome)));
  expect(closingLine(outcomes)).toBe("2 passed, 2 failed, 1 skipped");
  expect(seen.find((text) => text.includes("good"))).toMatch(/^ok +good +1 passed, 0 failed, 1 skipped, [0-9.]+ s$/);
  expect(seen.find((text) => text.includes("FAILED bad"))).toContain("names its fault");
}, 30_000);

test("a part that has to wait lets others go first, and is told what it waited for", async () => {
  const seen: string[] = [];
  const { promise, resolve } = Promise.withResolvers<Record<string, string>>();
  const late = testPart("late", 'test("a", () => expect(process.env.FOUND).toBe("it"));');
  const parts = [{ ...late, after: promise }, testPart("early", 'test("a", () => {});')];
  await runParts(parts, 1, ({ name, passed }) => {
    seen.push(`${name} ${passed}`);
    resolve({ FOUND: "it" });
  });
  expect(seen).toEqual(["early 1", "late 1"]);
}, 30_000);

test("a part that hangs is killed with what it started", async () => {
  const text = `test("hangs", async () => {
    const child = Bun.spawn(["sleep", "300"]);
    console.log("child " + child.pid);
    await child.exited;
  }, 300_000);`;
  const outcome = await runPart(testPart("hang", text, 2));
  expect(outcome.failed).toBe(1);
  expect(outcome.output).toContain("killed after 2 s");
  const pid = Number(/child ([0-9]+)/.exec(outcome.output)?.[1]);
  expect(pid).toBeGreaterThan(0);
  expect(isAlive(pid)).toBe(false);
}, 30_000);

/** A killed process whose new parent has not looked yet still has an entry: state Z. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
