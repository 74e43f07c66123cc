/** Runs a Bun script under strace and reads the trace: which calls were made, and which had returned before which. */

import { join } from "node:path";

export interface TracedCall {
  readonly name: string;
  /** The call as strace prints it, with file descriptors as `5</path>`. */
  readonly text: string;
  /** Lines of the trace in which the call was made and in which it returned; the same unless another thread came between. */
  readonly startLine: number;
  readonly endLine: number;
}

/**
 * Runs `script` (path and arguments) with Bun under strace with these options, follows its threads, and gives its standard
 * output and its calls in order. The trace is written into `scratchPath`. Throws when strace is missing or the script fails.
 */
export async function runTraced(
  scratchPath: string,
  options: readonly string[],
  script: readonly string[],
): Promise<{ output: string; calls: TracedCall[] }> {
  const strace = Bun.which("strace");
  if (!strace) throw new Error("strace is missing; install it with: apt-get install strace");
  const tracePath = join(scratchPath, "trace");
  const command = [strace, "-f", "-y", "-qq", "-o", tracePath, ...options, process.execPath, ...script];
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
  const [output, errors, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (exitCode !== 0) throw new Error(`${script.join(" ")} under strace gave ${exitCode}: ${errors}`);
  return { output, calls: parseTrace(await Bun.file(tracePath).text()) };
}

function parseTrace(trace: string): TracedCall[] {
  const calls: TracedCall[] = [];
  /** The call each thread is in, by thread id: where it stands in `calls`. */
  const unfinished = new Map<string, number>();
  trace.split("\n").forEach((line, lineNumber) => {
    const resumed = /^(\d+) +<\.\.\. \w+ resumed>/.exec(line);
    if (resumed) {
      const index = unfinished.get(resumed[1] ?? "");
      const call = index === undefined ? undefined : calls[index];
      if (index !== undefined && call) calls[index] = { ...call, endLine: lineNumber };
      return;
    }
    const [, thread, name] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
    if (thread === undefined || name === undefined) return;
    const isUnfinished = line.endsWith("<unfinished ...>");
    if (isUnfinished) unfinished.set(thread, calls.length);
    calls.push({
      name,
      text: line,
      startLine: lineNumber,
      endLine: isUnfinished ? Number.POSITIVE_INFINITY : lineNumber,
    });
  });
  return calls;
}
