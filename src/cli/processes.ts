/**
 * `berth serve --processes N`: the parent. It listens nowhere and opens nothing; it starts N times itself, which share the
 * port, starts again what dies, carries messages between them, and replaces them one after another on SIGHUP or SIGUSR2.
 */

import { systemClock } from "../lib/clock.ts";
import { createLogger, type Logger } from "../observe/logger.ts";
import { Gatherings } from "./gatherings.ts";
import { EXIT, type Invocation, UsageError } from "./invocation.ts";
import { ownCommand } from "./own-command.ts";
import { type FromChild, SEAT_VARIABLE, type Seat, type ToChild } from "./process-messages.ts";
import { onStopSignals } from "./stop-signals.ts";

/** More than any machine has cores; a slip of the finger should not fill its memory. */
const PROCESSES_MAX = 256;
/** A process that dies is started again after this long, doubled each time it does not live for `STEADY_MS`. */
const RESTART_MS = 200;
const RESTART_MS_MAX = 30_000;
const STEADY_MS = 60_000;
/** A child ends by itself within half a minute of being told; one that does not is ended. */
const STOP_MS = 60_000;

/** How many processes the command line asks for. Throws UsageError. */
export function processCount({ options }: Pick<Invocation, "options">): number {
  const given = options.processes;
  if (given === undefined) return 1;
  const count = Number(given);
  if (typeof given === "string" && /^[0-9]+$/.test(given) && count >= 1 && count <= PROCESSES_MAX) return count;
  throw new UsageError(`--processes is "${given}", use a whole number from 1 to ${PROCESSES_MAX}`);
}

/** One of the N places, whoever fills it at the moment. */
interface Slot {
  child: Child | undefined;
  failures: number;
}

interface Child {
  readonly process: Bun.Subprocess;
  readonly startedMs: number;
  /** What it said when it listened; undefined when it ended before. */
  readonly listening: Promise<Extract<FromChild, { kind: "listening" }> | undefined>;
  isReady: boolean;
  isRetired: boolean;
}

/** Serves until a signal; gives the exit code. */
export function serveWithProcesses(count: number, invocation: Invocation): Promise<number> {
  return new Parent(count, invocation).run();
}

class Parent {
  readonly #invocation: Invocation;
  readonly #slots: Slot[];
  readonly #children = new Set<Child>();
  readonly #gatherings = new Gatherings<Child>();
  readonly #stopping = Promise.withResolvers<string>();
  #log: Logger = parentLogger("info");
  #seat: Seat = {};
  #isStopping = false;
  #isReplacing = false;

  constructor(count: number, invocation: Invocation) {
    this.#invocation = invocation;
    this.#slots = Array.from({ length: count }, () => ({ child: undefined, failures: 0 }));
  }

  async run(): Promise<number> {
    this.#obeySignals();
    const code = (await this.#startAll()) ?? EXIT.ok;
    if (code === EXIT.ok) {
      for (const slot of this.#slots) this.#keepFilled(slot);
      const reason = await this.#stopping.promise;
      this.#log.info("stopping", { signal: reason });
    }
    this.#isStopping = true;
    const codes = await Promise.all([...this.#children].map((child) => this.#end(child)));
    this.#log.flush();
    return codes.find((each) => each !== EXIT.ok) ?? code;
  }

  /** The first alone, because it brings the schema up to date and picks the ports. Gives an exit code when it fails. */
  async #startAll(): Promise<number | undefined> {
    const [first, ...others] = this.#slots as [Slot, ...Slot[]];
    first.child = this.#start(first);
    const listening = await this.#begun(first.child);
    if (!listening) return this.#codeOf(first.child);
    this.#log = parentLogger(listening.level);
    this.#seat = { ports: listening.ports };
    for (const slot of others) slot.child = this.#start(slot);
    for (const { child } of others) {
      if (child && !(await this.#begun(child))) return this.#codeOf(child);
    }
    if (this.#isStopping) return EXIT.ok;
    // Whoever started us reads the addresses from the first line.
    this.#log.info("listening", { ...listening.fields, processes: this.#slots.length });
    for (const warning of listening.warnings) this.#log.warn(warning);
    this.#log.flush();
    return undefined;
  }

  /** What it says when it listens, undefined when it ends before or everything is to stop. */
  #begun(child: Child) {
    return Promise.race([child.listening, this.#stopping.promise.then(() => undefined)]);
  }

  async #codeOf(child: Child): Promise<number> {
    if (this.#isStopping) return EXIT.ok;
    return (await child.process.exited) || EXIT.failed;
  }

  #start(slot: Slot): Child {
    const [program = "", ...args] = ownCommand();
    const seat: Seat = { ...this.#seat, leads: slot === this.#slots[0] };
    const { promise, resolve } = Promise.withResolvers<Extract<FromChild, { kind: "listening" }> | undefined>();
    const child: Child = {
      process: Bun.spawn([program, ...args], {
        env: { ...this.#invocation.env, [SEAT_VARIABLE]: JSON.stringify(seat) },
        stdio: ["ignore", "inherit", "inherit"],
        serialization: "json",
        ipc: (message: FromChild) => {
          if (message.kind === "listening") {
            child.isReady = true;
            resolve(message);
          } else this.#hear(child, message);
        },
      }),
      startedMs: performance.now(),
      listening: promise,
      isReady: false,
      isRetired: false,
    };
    this.#children.add(child);
    void child.process.exited.then(() => {
      child.isReady = false;
      this.#children.delete(child);
      this.#gatherings.leave(child);
      resolve(undefined);
    });
    return child;
  }

  /** Starts a slot's process again whenever it ends without having been told to. */
  #keepFilled(slot: Slot): void {
    const { child } = slot;
    if (!child) return;
    void child.process.exited.then(async (code) => {
      if (this.#isStopping || child.isRetired || slot.child !== child) return;
      const livedMs = performance.now() - child.startedMs;
      slot.failures = livedMs >= STEADY_MS ? 0 : slot.failures + 1;
      const afterMs = Math.min(RESTART_MS * 2 ** Math.min(slot.failures, 10), RESTART_MS_MAX);
      this.#log.warn("a process ended by itself and is started again", { pid: child.process.pid, code, afterMs });
      await Bun.sleep(afterMs);
      if (this.#isStopping || slot.child !== child) return;
      slot.child = this.#start(slot);
      this.#keepFilled(slot);
    });
  }

  /** One after another: the successor listens before its predecessor leaves the port. */
  async #replaceAll(signal: string): Promise<void> {
    if (this.#isReplacing || this.#isStopping) return;
    this.#isReplacing = true;
    this.#log.info("replacing the processes one after another", { signal });
    try {
      for (const slot of this.#slots) {
        if (!(await this.#replace(slot))) break;
      }
    } finally {
      this.#isReplacing = false;
    }
    this.#log.info("replaced the processes", { signal });
    this.#log.flush();
  }

  async #replace(slot: Slot): Promise<boolean> {
    const predecessor = slot.child;
    const successor = this.#start(slot);
    if (!(await this.#begun(successor))) {
      if (!this.#isStopping) this.#log.error("the new process did not start; the others stay as they are");
      return false;
    }
    slot.child = successor;
    slot.failures = 0;
    this.#keepFilled(slot);
    if (predecessor) {
      predecessor.isRetired = true;
      tell(predecessor, { kind: "retire" });
      await within(STOP_MS, predecessor.process.exited);
      if (predecessor.process.exitCode === null) predecessor.process.kill("SIGKILL");
    }
    return !this.#isStopping;
  }

  #hear(child: Child, message: Exclude<FromChild, { kind: "listening" }>): void {
    switch (message.kind) {
      case "stop":
        this.#stop(message.reason);
        break;
      case "changed":
        for (const other of this.#others(child)) tell(other, message);
        break;
      case "gather":
        this.#gatherings
          .begin(this.#others(child), (other, id) => tell(other, { kind: "gather", id }))
          .then((figures) => tell(child, { kind: "figures", id: message.id, figures }));
        break;
      case "figures":
        this.#gatherings.add(child, message.id, message.figures);
        break;
    }
  }

  #others(child: Child): Child[] {
    return [...this.#children].filter((other) => other !== child && other.isReady);
  }

  #stop(reason: string): void {
    this.#isStopping = true;
    this.#stopping.resolve(reason);
  }

  async #end(child: Child): Promise<number> {
    child.process.kill("SIGTERM");
    await within(STOP_MS, child.process.exited);
    if (child.process.exitCode === null) child.process.kill("SIGKILL");
    const code = await child.process.exited;
    // One that was ended by the signal had not come to the point of obeying it.
    return child.process.signalCode === "SIGTERM" ? EXIT.ok : code;
  }

  #obeySignals(): void {
    const stop = onStopSignals(
      (signal) => this.#stop(signal),
      (signal) => {
        this.#log.warn("stopping at once", { signal });
        for (const { process } of this.#children) process.kill("SIGKILL");
        process.exit(EXIT.failed);
      },
    );
    const replace = (signal: string) => void this.#replaceAll(signal);
    process.on("SIGUSR2", replace);
    // A terminal that is closed means the end; without one it is how service managers ask for a new config.
    process.on("SIGHUP", process.stderr.isTTY ? stop : replace);
  }
}

function parentLogger(level: Parameters<typeof createLogger>[0]["level"]): Logger {
  return createLogger({ clock: systemClock, level, format: process.stderr.isTTY ? "text" : "json" });
}

/** A child that is just ending hears nothing any more. */
function tell(child: Child, message: ToChild): void {
  if (child.process.exitCode !== null || child.process.killed) return;
  try {
    child.process.send(message);
  } catch {
    // Its channel closed a moment before it ends.
  }
}

async function within(timeoutMs: number, promise: Promise<unknown>): Promise<void> {
  let timer: Timer | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}
