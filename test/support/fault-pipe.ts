/**
 * One way of one proxied connection: takes pieces from a socket and writes them to the other when latency, bandwidth and
 * silence allow, with back-pressure. Ends and resets travel in the same queue, so they are late or kept back as bytes are.
 */

import type { Socket } from "node:net";
import type { Direction, Faults } from "./fault-faults.ts";

/** What waits to be passed on; beyond it the source is not read. */
const queuedBytesMax = 4 * 1024 * 1024;
/** With a bound on bandwidth, a piece is passed on in so many steps a second. */
const stepsPerSecond = 20;

type Item = { kind: "bytes"; bytes: Buffer; dueMs: number } | { kind: "end" | "reset" | "closed"; dueMs: number };

export interface PipeEvents {
  /** What becomes of a piece; undefined swallows it. */
  filter?: ((bytes: Buffer) => Buffer | undefined) | undefined;
  /** Called for each piece that was passed on, with all bytes of this way since they were last counted anew. */
  passed?(bytes: Buffer): void;
  /** The source is gone: reset by its peer, or closed when both ways had ended. */
  gone(wasReset: boolean): void;
}

export class Pipe {
  /** Since the faults' counts were last set to zero. */
  countedBytes = 0;
  readonly #source: Socket;
  readonly #target: Socket;
  readonly #faults: Faults;
  readonly #way: Direction;
  readonly #events: PipeEvents;
  readonly #queue: Item[] = [];
  #queuedBytes = 0;
  #countsFrom: number;
  #wake: (() => void) | undefined;
  /** Ends the wait for the write under way. */
  #written: (() => void) | undefined;
  #over = false;
  #ended = false;

  constructor(source: Socket, target: Socket, faults: Faults, way: Direction, events: PipeEvents) {
    this.#source = source;
    this.#target = target;
    this.#faults = faults;
    this.#way = way;
    this.#events = events;
    this.#countsFrom = faults.countsFrom;
    source.on("data", (bytes: Buffer) => {
      this.#queuedBytes += bytes.length;
      if (this.#queuedBytes > queuedBytesMax) source.pause();
      this.#put({ kind: "bytes", bytes, dueMs: this.#dueMs() });
    });
    source.on("end", () => this.#put({ kind: "end", dueMs: this.#dueMs() }));
    source.on("error", () => this.#put({ kind: "reset", dueMs: this.#dueMs() }));
    source.on("close", () => this.#put({ kind: "closed", dueMs: this.#dueMs() }));
    // A target that closes calls back nobody whose write was under way.
    target.once("close", () => this.#written?.());
    void this.#run();
  }

  stop(): void {
    this.#over = true;
    this.#wake?.();
  }

  /** Bytes of this way since the faults' counts were set to zero. */
  counted(): number {
    if (this.#countsFrom !== this.#faults.countsFrom) {
      this.#countsFrom = this.#faults.countsFrom;
      this.countedBytes = 0;
    }
    return this.countedBytes;
  }

  #dueMs(): number {
    return performance.now() + this.#faults.latencyMs[this.#way];
  }

  #put(item: Item): void {
    this.#queue.push(item);
    this.#wake?.();
  }

  async #run(): Promise<void> {
    while (!this.#over) {
      const item = this.#queue.shift();
      if (item === undefined) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      const waitMs = item.dueMs - performance.now();
      if (waitMs > 0) await Bun.sleep(waitMs);
      while (this.#faults.silent[this.#way] && !this.#over) await this.#faults.changed();
      if (this.#over) return;
      if (item.kind === "bytes") await this.#pass(item.bytes);
      else if (item.kind === "end") this.#end();
      else this.#events.gone(item.kind === "reset");
    }
  }

  async #pass(whole: Buffer): Promise<void> {
    const bytes = this.#events.filter ? this.#events.filter(whole) : whole;
    if (bytes !== undefined && !this.#ended) {
      const limit = this.#faults.bytesPerSecond[this.#way];
      const step = limit > 0 ? Math.max(1, Math.ceil(limit / stepsPerSecond)) : bytes.length;
      for (let at = 0; at < bytes.length && !this.#over && !this.#ended; at += step) {
        const piece = bytes.subarray(at, at + step);
        await this.#write(piece);
        if (limit > 0) await Bun.sleep((piece.length / limit) * 1000);
      }
    }
    this.#queuedBytes -= whole.length;
    if (this.#queuedBytes <= queuedBytesMax && this.#source.isPaused()) this.#source.resume();
  }

  /** Passes on as much as `endAfterBytes` leaves. */
  async #write(piece: Buffer): Promise<void> {
    const endAfter = this.#faults.endAfterBytes[this.#way];
    const left = endAfter === undefined ? piece.length : Math.max(0, endAfter - this.counted());
    const now = piece.subarray(0, left);
    this.countedBytes = this.counted() + now.length;
    if (now.length > 0) {
      await new Promise<void>((resolve) => {
        this.#written = resolve;
        if (this.#target.destroyed || this.#target.write(now, () => resolve())) resolve();
      });
    }
    if (endAfter !== undefined && this.countedBytes >= endAfter) this.#end();
    this.#events.passed?.(now);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (!this.#target.destroyed) this.#target.end();
  }
}
