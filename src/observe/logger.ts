/**
 * Structured logs on stderr: JSON lines, or text when stderr is a terminal. Lines are gathered and written in batches so
 * that a busy registry does not pay a system call per request; a fatal line and `flush` write at once.
 */

import { writeSync } from "node:fs";
import type { Clock } from "../lib/clock.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Record<string, unknown>;

export interface Logger {
  debug(msg: string, fields?: LogFields): void;
  info(msg: string, fields?: LogFields): void;
  warn(msg: string, fields?: LogFields): void;
  error(msg: string, fields?: LogFields): void;
  /** False when a line of this level would be dropped: worth asking before building a costly one. */
  wants(level: LogLevel): boolean;
  /** Writes what is waiting. Called at stop and before the process may die. */
  flush(): void;
}

export interface LoggerOptions {
  clock: Clock;
  level: LogLevel;
  format: "json" | "text";
  /** Takes whole lines; default writes to stderr. */
  write?: (text: string) => void;
  /** Other processes write to the same stderr: lines must not end up inside each other. */
  isShared?: boolean;
}

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };
/** A batch is written when it holds this much, or after FLUSH_MS: enough to save system calls, little enough to lose. */
const BATCH_CHARS = 64 * 1024;
const FLUSH_MS = 100;
/** What a pipe takes in one piece. Source: pipe(7), PIPE_BUF. A longer line may be torn. */
const ATOMIC_BYTES = 4096;

export function createLogger(options: LoggerOptions): Logger {
  const write = options.write ?? writeStderr;
  const minRank = RANK[options.level];
  let pending = "";
  let timer: ReturnType<typeof setTimeout> | undefined;

  function flush(): void {
    if (timer) clearTimeout(timer);
    timer = undefined;
    if (pending === "") return;
    const text = pending;
    pending = "";
    if (options.isShared) for (const piece of wholeLines(text)) write(piece);
    else write(text);
  }

  function log(level: LogLevel, msg: string, fields?: LogFields): void {
    if (RANK[level] < minRank) return;
    const time = new Date(options.clock.nowMs()).toISOString();
    pending += options.format === "json" ? jsonLine(time, level, msg, fields) : textLine(time, level, msg, fields);
    const isUrgent = level === "warn" || level === "error" || pending.length >= BATCH_CHARS;
    if (isUrgent) flush();
    else timer ??= setTimeout(flush, FLUSH_MS);
  }

  return {
    debug: (msg, fields) => log("debug", msg, fields),
    info: (msg, fields) => log("info", msg, fields),
    warn: (msg, fields) => log("warn", msg, fields),
    error: (msg, fields) => log("error", msg, fields),
    wants: (level) => RANK[level] >= minRank,
    flush,
  };
}

/** An error as log fields: message, code, stack and the chain of causes, at most five deep. */
export function errorFields(error: unknown): LogFields {
  const causes: string[] = [];
  let cause = error instanceof Error ? error.cause : undefined;
  for (let depth = 0; cause !== undefined && depth < 5; depth++) {
    causes.push(cause instanceof Error ? cause.message : String(cause));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  if (!(error instanceof Error)) return { error: String(error) };
  return { error: error.message, stack: error.stack, ...(causes.length > 0 ? { causes } : {}) };
}

function jsonLine(time: string, level: LogLevel, msg: string, fields?: LogFields): string {
  return `${JSON.stringify({ time, level, msg, ...fields })}\n`;
}

function textLine(time: string, level: LogLevel, msg: string, fields?: LogFields): string {
  let line = `${time.slice(11, 19)} ${level.padEnd(5)} ${msg}`;
  for (const [key, value] of Object.entries(fields ?? {})) {
    line += ` ${key}=${typeof value === "string" && !/[\s"]/.test(value) ? value : JSON.stringify(value)}`;
  }
  return `${line}\n`;
}

/** The text in pieces of whole lines, each as long as a pipe takes at once; only a longer line is longer. */
function wholeLines(text: string): string[] {
  const pieces: string[] = [];
  let piece = "";
  for (const line of text.split(/(?<=\n)/)) {
    if (Buffer.byteLength(piece) + Buffer.byteLength(line) > ATOMIC_BYTES && piece !== "") {
      pieces.push(piece);
      piece = "";
    }
    piece += line;
  }
  return piece === "" ? pieces : [...pieces, piece];
}

function writeStderr(text: string): void {
  const bytes = Buffer.from(text);
  let offset = 0;
  // A full pipe answers EAGAIN; a log reader that is gone answers EPIPE. Neither may stop the registry.
  for (let tries = 0; offset < bytes.length && tries < 100; tries++) {
    try {
      offset += writeSync(2, bytes, offset);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
      Bun.sleepSync(1);
    }
  }
}
