/** Runs `berth` commands as an operator would: a process of its own, with an environment of its own and nothing else. */
import { join } from "node:path";

export interface CommandOptions {
  readonly cwd: string;
  readonly env?: Record<string, string>;
  readonly stdin?: string;
  /** A built binary; default TEST_BERTH_BINARY, else the sources under this Bun. */
  readonly binary?: string;
  readonly timeoutMs?: number;
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const mainFile = join(import.meta.dir, "..", "..", "src", "main.ts");

/** Runs one command to its end, whatever its exit code. Killed, with code 137, after `timeoutMs`. */
export async function runBerth(args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const binary = options.binary ?? process.env.TEST_BERTH_BINARY;
  const program = binary ? [binary] : [process.execPath, mainFile];
  const child = Bun.spawn([...program, ...args], {
    cwd: options.cwd,
    env: options.env ?? {},
    stdin: options.stdin === undefined ? "ignore" : new Blob([options.stdin]),
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.timeoutMs ?? 20_000,
    killSignal: "SIGKILL",
  });
  const text = (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => new Response(stream).text();
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
  return { code, stdout, stderr };
}

/** Exit codes that the command line promises, as in sysexits.h. */
export const exitCodes = { ok: 0, failed: 1, usage: 64, unavailable: 69, config: 78 } as const;
