/**
 * What `ok.ts` and `test.ts` share: a part is one program (a check, or `bun test` on some files) whose output is kept and
 * counted. Passing parts take one line, failing ones are shown whole.
 */
import { join } from "node:path";
import { processTree } from "../test/support/process.ts";

export interface Part {
  readonly name: string;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What must be there before it starts, and what that adds to its environment. Never rejects: the tests say what is missing. */
  readonly after?: Promise<Readonly<Record<string, string>>>;
  /** True for `bun test`: its summary is counted, and a run without a test is a failure. */
  readonly isTest: boolean;
  /** After this the part and everything it started is killed. */
  readonly timeoutSeconds: number;
}

export interface Outcome {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  readonly output: string;
  /** Lines in which tests tell what they did not run, such as "not run: needs Go". */
  readonly notes: readonly string[];
}

export const rootDir = join(import.meta.dir, "..");
const running = new Set<number>();
/** For tests that set none: Bun's five seconds are short on a machine that compiles beside them. */
const testTimeoutMs = 30_000;
/** Kept of each part: the end, where the summary is. A part that writes more is out of hand. */
const keptOutputChars = 16 * 1024 * 1024;

/** `bun test` on files, given relative to the root. Everything it started ends with it, however it ends. */
export function testCommand(files: readonly string[], flags: readonly string[] = []): string[] {
  return [
    process.execPath,
    "test",
    "--no-orphans",
    `--timeout=${testTimeoutMs}`,
    ...flags,
    ...files.map((file) => `./${file}`),
  ];
}

/** A development tool from node_modules, run by this Bun so that Node need not be on PATH. */
export function toolCommand(script: string, ...args: string[]): string[] {
  return [process.execPath, join(rootDir, "node_modules", script), ...args];
}

/** Test files below a folder of the root, sorted. */
export function testFilesIn(folder: string): string[] {
  return [...new Bun.Glob(`${folder}/**/*.test.ts`).scanSync({ cwd: rootDir })].sort();
}

/** Runs one part to its end. Never throws for a failing one. */
export async function runPart(part: Part): Promise<Outcome> {
  const found = await part.after;
  const startedMs = performance.now();
  const child = Bun.spawn([...part.command], {
    cwd: rootDir,
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined, ...part.env, ...found },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  running.add(child.pid);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killTree(child.pid);
  }, part.timeoutSeconds * 1000);
  const kept = { text: "" };
  await Promise.all([keep(child.stdout, kept), keep(child.stderr, kept)]);
  const code = await child.exited;
  clearTimeout(timer);
  running.delete(child.pid);
  const seconds = (performance.now() - startedMs) / 1000;
  const ending = timedOut
    ? `\nkilled after ${part.timeoutSeconds} s`
    : code === 0
      ? ""
      : `\nended with exit code ${code}`;
  return { name: part.name, seconds, ...judge(part.isTest, code, kept.text), output: kept.text + ending };
}

/**
 * Runs parts in their order, `atOnce` side by side, and reports each as it ends. One that has to wait for something lets
 * those that need not go first.
 */
export async function runParts(
  parts: readonly Part[],
  atOnce: number,
  report: (outcome: Outcome) => void,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const waiting = [...parts];
  const there = new Set<Promise<unknown>>();
  for (const { after } of parts) void after?.then(() => there.add(after));
  const lane = async () => {
    while (waiting.length > 0) {
      const ready = waiting.findIndex(({ after }) => after === undefined || there.has(after));
      const [part] = ready === -1 ? [] : waiting.splice(ready, 1);
      if (!part) {
        await Promise.race(waiting.map(({ after }) => after));
        continue;
      }
      const outcome = await runPart(part);
      outcomes.push(outcome);
      report(outcome);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return outcomes;
}

/** Ends what is running, for whoever is told to stop. */
export function killParts(): void {
  for (const pid of running) killTree(pid);
}

/** One line for a passing part, all of its output for a failing one. */
export function describeOutcome(outcome: Outcome): string {
  const { name, passed, failed, skipped, seconds, output } = outcome;
  const counts = [`${passed} passed`, `${failed} failed`, ...(skipped > 0 ? [`${skipped} skipped`] : [])].join(", ");
  const line = `${failed > 0 ? "FAILED" : "ok    "} ${name.padEnd(26)} ${counts}, ${seconds.toFixed(1)} s`;
  return failed > 0 ? `${"=".repeat(100)}\n${output.trimEnd()}\n${line}\n${"=".repeat(100)}` : line;
}

/** The closing line, in the form that every caller of the tests reads: `12 passed, 0 failed, 1 skipped`. */
export function closingLine(outcomes: readonly Pick<Outcome, "passed" | "failed" | "skipped">[]): string {
  const sum = (count: "passed" | "failed" | "skipped") => outcomes.reduce((total, each) => total + each[count], 0);
  const skipped = sum("skipped");
  return `${sum("passed")} passed, ${sum("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** Counts of a part from its exit code and what it printed. */
export function judge(
  isTest: boolean,
  code: number,
  output: string,
): Pick<Outcome, "passed" | "failed" | "skipped" | "notes"> {
  const notes = [...new Set(output.match(/^.*\bnot run: .*$/gm)?.map((line) => line.replace(/^.*?(?=not run: )/, "")))];
  if (!isTest) return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, notes };
  // The last one wins: a test may run `bun test` itself and print what that said.
  const summary = output.slice(lastSummary(output));
  const count = (word: string) => Number(new RegExp(`^ *([0-9]+) ${word}$`, "m").exec(summary)?.[1] ?? 0);
  const passed = count("pass");
  const failed = Math.max(count("fail"), count("errors?"));
  const skipped = count("skip") + count("todo");
  // No test at all, or a crash after the last one, is a failure that no line counts. What needs Go may say so instead.
  const isExcused = skipped > 0 && notes.some((note) => note.startsWith("not run: needs Go"));
  const isBroken = failed === 0 && (code !== 0 || (passed === 0 && !isExcused));
  return { passed, failed: isBroken ? 1 : failed, skipped, notes };
}

function lastSummary(output: string): number {
  const starts = [...output.matchAll(/^ *[0-9]+ pass$/gm)];
  return starts.at(-1)?.index ?? output.length;
}

async function keep(stream: ReadableStream<Uint8Array>, kept: { text: string }): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    kept.text = (kept.text + decoder.decode(chunk, { stream: true })).slice(-keptOutputChars);
  }
}

function killTree(pid: number): void {
  for (const member of processTree(pid)) {
    try {
      process.kill(member, "SIGKILL");
    } catch {
      // it ended by itself between the look and the signal
    }
  }
}
