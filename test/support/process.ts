/**
 * Starts real programs for tests and benchmarks and makes sure they are gone afterwards: output is kept, readiness is
 * awaited, memory is read from /proc. No shell is involved. Linux only, as everything that reads /proc.
 */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";

export interface StartOptions {
  /** Path or name (looked up on PATH) of the program. */
  command: string;
  args?: readonly string[];
  cwd?: string;
  /** Added to this process' environment; undefined removes a variable. */
  env?: Record<string, string | undefined>;
  /** Name in error messages; default: the command. */
  name?: string;
}

/** Resident memory in bytes, summed over a process and its children. */
export interface Memory {
  rssBytes: number;
  /** Sum of each process' own peak: exact for one process, an upper bound for several. */
  peakRssBytes: number;
}

export interface RunningProcess {
  readonly name: string;
  readonly pid: number;
  /** Exit code (128 + signal when killed), once it has ended. */
  readonly exited: Promise<number>;
  readonly hasExited: () => boolean;
  stdout(): string;
  stderr(): string;
  /** First line of stdout or stderr that matches. Throws, with the output so far, on exit or after `timeoutMs`. */
  waitForLine(pattern: RegExp | ((line: string) => boolean), timeoutMs?: number): Promise<string>;
  /** Waits until a GET of the URL is answered with a status that `accept` takes (default: below 500). */
  waitForUrl(url: string, options?: { timeoutMs?: number; accept?: (status: number) => boolean }): Promise<void>;
  /** SIGTERM, then SIGKILL when it has not ended within `timeoutMs`. Gives the exit code. Safe to repeat. */
  stop(timeoutMs?: number): Promise<number>;
  /** SIGKILL to the process and its descendants; resolves when it is gone. */
  kill(): Promise<void>;
  memory(): Memory;
  /** Starts the peak anew from the memory in use now. */
  resetPeak(): void;
}

/** What is kept of each output stream; older text is dropped so that a chatty server cannot fill the test's memory. */
const keptOutputChars = 4 * 1024 * 1024;
const pollMs = 10;
const running = new Set<RunningProcess>();

process.on("exit", () => {
  for (const child of running) signalTree(child.pid);
});

/**
 * The exit handler does not run in `bun test` nor when the runner itself is killed, so where util-linux is there the
 * kernel is asked to end the child with its parent. setpriv replaces itself by the program: the pid is the program's own.
 */
const setpriv = Bun.which("setpriv");
const dieWithParent = setpriv === null ? [] : [setpriv, "--pdeathsig", "KILL", "--"];

/** Starts a program. Throws when there is none of that name. */
export function startProcess(options: StartOptions): RunningProcess {
  const name = options.name ?? options.command;
  if (Bun.which(options.command) === null) throw new Error(`"${options.command}" is no program that can be executed`);
  const child = Bun.spawn([...dieWithParent, options.command, ...(options.args ?? [])], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const output = { stdout: "", stderr: "" };
  let over = false;
  const drained = Promise.all([keep(child.stdout, output, "stdout"), keep(child.stderr, output, "stderr")]);
  const exited = child.exited.then((code) => {
    over = true;
    running.delete(self);
    return code;
  });

  const describe = (problem: string) =>
    new Error(`${name} (pid ${child.pid}) ${problem}; its output:\n${output.stdout}${output.stderr}`);

  const until = async <T>(what: string, timeoutMs: number, attempt: () => Promise<T | undefined> | T | undefined) => {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      // read before the attempt: a last line printed just before the end still counts
      const ended = over;
      if (ended) await drained;
      const found = await attempt();
      if (found !== undefined) return found;
      if (ended) throw describe(`ended with ${await exited} before ${what}`);
      if (performance.now() > deadline) throw describe(`did not reach ${what} within ${timeoutMs} ms`);
      await Bun.sleep(pollMs);
    }
  };

  const self: RunningProcess = {
    name,
    pid: child.pid,
    exited,
    hasExited: () => over,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    waitForLine: (pattern, timeoutMs = 15_000) => {
      const matches = typeof pattern === "function" ? pattern : (line: string) => pattern.test(line);
      return until(`a line like ${String(pattern)}`, timeoutMs, () =>
        [...completeLines(output.stderr), ...completeLines(output.stdout)].find(matches),
      );
    },
    waitForUrl: async (url, { timeoutMs = 15_000, accept = (status: number) => status < 500 } = {}) => {
      await until(`an answer at ${url}`, timeoutMs, async () => {
        const status = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(2_000) }).then(
          async (response) => {
            await response.body?.cancel();
            return response.status;
          },
          () => undefined,
        );
        return status !== undefined && accept(status) ? true : undefined;
      });
    },
    stop: async (timeoutMs = 10_000) => {
      if (!over) child.kill("SIGTERM");
      const ended = await within(exited, timeoutMs);
      if (ended === undefined) await self.kill();
      await drained;
      return exited;
    },
    kill: async () => {
      if (!over) signalTree(child.pid);
      await exited;
    },
    memory: () => readMemory(child.pid),
    resetPeak: () => {
      for (const pid of processTree(child.pid)) writeFileSync(`/proc/${pid}/clear_refs`, "5");
    },
  };
  running.add(self);
  return self;
}

/** Runs a program to its end and gives its output. Throws when it exits with anything but 0 or outlives `timeoutMs`. */
export async function runProcess(
  options: StartOptions & { timeoutMs?: number },
): Promise<{ stdout: string; stderr: string }> {
  const child = startProcess(options);
  const timeoutMs = options.timeoutMs ?? 60_000;
  const code = await within(child.exited, timeoutMs);
  if (code === undefined) await child.kill();
  await child.stop();
  const result = { stdout: child.stdout(), stderr: child.stderr() };
  const command = [options.command, ...(options.args ?? [])].join(" ");
  if (code === undefined) throw new Error(`"${command}" ran longer than ${timeoutMs} ms\n${result.stderr}`);
  if (code !== 0) throw new Error(`"${command}" ended with ${code}\n${result.stdout}${result.stderr}`);
  return result;
}

/** A TCP port of 127.0.0.1 that was free a moment ago, for programs that cannot choose one by themselves. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no TCP port was given");
  return address.port;
}

/**
 * The TCP ports that a process or its children listen on, found through the sockets it holds. This is how a test knows
 * that the server behind a port is the one it started. Source: proc(5), /proc/net/tcp.
 */
export function listeningPorts(pid: number): number[] {
  const inodes = new Set<string>();
  for (const member of processTree(pid)) {
    for (const fd of readdirOrNone(`/proc/${member}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(readOrEmpty(() => readlinkSync(`/proc/${member}/fd/${fd}`)))?.[1];
      if (inode !== undefined) inodes.add(inode);
    }
  }
  const ports = new Set<number>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const row of readOrEmpty(() => readFileSync(table, "utf8"))
      .split("\n")
      .slice(1)) {
      const [, local, , state, , , , , , inode] = row.trim().split(/\s+/);
      if (state !== listenState || local === undefined || inode === undefined || !inodes.has(inode)) continue;
      ports.add(Number.parseInt(local.slice(local.lastIndexOf(":") + 1), 16));
    }
  }
  return [...ports];
}
const listenState = "0A";

/** A process and all its living descendants, parents first. */
export function processTree(pid: number): number[] {
  const tree = [pid];
  for (const member of tree) {
    for (const task of readdirOrNone(`/proc/${member}/task`)) {
      const children = readOrEmpty(() => readFileSync(`/proc/${member}/task/${task}/children`, "utf8"));
      for (const child of children.split(" ")) if (child !== "") tree.push(Number(child));
    }
  }
  return tree;
}

/** The promise's value, or undefined after `timeoutMs`; unlike a sleep it leaves no timer that keeps the caller alive. */
async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: Timer | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function readMemory(pid: number): Memory {
  const memory = { rssBytes: 0, peakRssBytes: 0 };
  for (const member of processTree(pid)) {
    const status = readOrEmpty(() => readFileSync(`/proc/${member}/status`, "utf8"));
    memory.rssBytes += Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
    memory.peakRssBytes += Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  }
  return memory;
}

function signalTree(pid: number): void {
  for (const member of processTree(pid)) {
    try {
      process.kill(member, "SIGKILL");
    } catch {
      // it ended by itself between the look and the signal
    }
  }
}

async function keep(
  stream: ReadableStream<Uint8Array>,
  output: { stdout: string; stderr: string },
  which: "stdout" | "stderr",
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    output[which] = (output[which] + decoder.decode(chunk, { stream: true })).slice(-keptOutputChars);
  }
}

/** Lines that have been ended by a line feed; a half-written last line would parse as something else. */
function completeLines(text: string): string[] {
  return text.split("\n").slice(0, -1);
}

function readOrEmpty(read: () => string): string {
  try {
    return read();
  } catch {
    // processes come and go while /proc is read
    return "";
  }
}

function readdirOrNone(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
