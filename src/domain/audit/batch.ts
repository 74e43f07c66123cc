/**
 * Entries that no change carries, pulls above all: gathered in memory beside the requests and written about once a second
 * and at stop. Equal entries of one second become one row with a count, so that a thousand nodes' worth of the same pull
 * by the same robot costs one insert. What is lost when, and what strict logging means here, is in NOTES.md.
 */

import type { Config } from "../../config/schema.ts";
import { RegistryError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import type { LogSink } from "../../logsink/contract.ts";
import { errorFields, type Logger } from "../../observe/logger.ts";
import type { Metrics } from "../../observe/metrics.ts";
import { formatReference, type Reference } from "../../oci/reference.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { type ActionMetadata, type RequestOrigin, repositoryMetadata } from "./audit.ts";
import type { ActionKind } from "./kinds.ts";
import type { ResolveNames } from "./resolve.ts";

/** Something that happened beside any transaction. Names are looked up when it is written, not while somebody waits. */
export interface AuditNote {
  readonly kind: ActionKind;
  /** The namespace it concerns; the id when it is known, else what has this name by then. */
  readonly namespace: { readonly id?: number | undefined; readonly name: string } | undefined;
  /** Full name of the repository it concerns, if it exists. */
  readonly repositoryPath?: string | undefined;
  readonly performer?: { readonly id?: number | undefined; readonly name: string } | undefined;
  readonly request: RequestOrigin;
  readonly metadata: ActionMetadata;
}

interface Waiting {
  readonly note: Omit<AuditNote, "request"> & { readonly repositoryId?: number | undefined };
  readonly ip: string | undefined;
  readonly createdMs: number;
  readonly isPull: boolean;
  count: number;
}

/** A pull that was noted in this second. */
interface OpenPull {
  readonly repositoryId: number;
  readonly reference: string;
  readonly entry: Waiting;
}

type BatchConfig = Pick<
  Config,
  | "ALLOW_PULLS_WITHOUT_STRICT_LOGGING"
  | "ALLOW_WITHOUT_STRICT_LOGGING"
  | "DISABLED_FOR_AUDIT_LOGS"
  | "DISABLED_FOR_PULL_LOGS"
>;

export interface AuditBatchOptions {
  readonly sink: LogSink;
  readonly resolve: ResolveNames;
  readonly config: BatchConfig;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "auditDropped">;
}

/** Pause between the first waiting entry and the write: an entry is seen about a second after it happened. */
const FLUSH_MS = 1000;
/** Pause after a write that failed. */
const RETRY_MS = 2000;
/** Entries of one write: some milliseconds of SQLite's thread. */
const CHUNK_MAX = 512;
/** Entries that wait at most, some 10 MB. */
export const WAITING_MAX = 20_000;
/** Of these, entries that nothing depends on, such as failed log-ins: a flood of them must not push pulls out. */
export const EXTRAS_MAX = 5_000;
/** Strict logging: pulls are refused once nothing could be written for this long. Shorter troubles only delay entries. */
export const FAILING_MAX_MS = 30_000;
/** Different pulls by one token in one second that are searched one by one. */
const PULLS_OF_TOKEN_MAX = 8;
/** Writes that `close` tries before it gives up what is left. */
const CLOSE_TRIES = 3;
/** Dropped entries are told of in one line for all of this time. */
const TELL_DROPPED_MS = 60_000;

export class AuditBatch {
  readonly #options: AuditBatchOptions;
  readonly #unlogged: ReadonlySet<string>;
  readonly #unloggedPulls: ReadonlySet<string>;
  readonly #mayDropPulls: boolean;
  #waiting: Waiting[] = [];
  #extras = 0;
  /** Entries of the running second that may still count up, by what makes them equal. */
  readonly #open = new Map<string, Waiting>();
  /**
   * The same by registry token: a token belongs to the client that fetched it, so that address and agent, whose reading
   * would be a tenth of a cached pull, need not be asked for again within the second.
   */
  readonly #openByToken = new Map<object, OpenPull[]>();
  #openSecond = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #flushing: Promise<boolean> | undefined;
  #failingSinceMs: number | undefined;
  #dropped = 0;
  #toldDroppedMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: AuditBatchOptions) {
    const { config } = options;
    this.#options = options;
    this.#unlogged = new Set(config.DISABLED_FOR_AUDIT_LOGS);
    this.#unloggedPulls = new Set([...config.DISABLED_FOR_AUDIT_LOGS, ...config.DISABLED_FOR_PULL_LOGS]);
    this.#mayDropPulls = config.ALLOW_PULLS_WITHOUT_STRICT_LOGGING || config.ALLOW_WITHOUT_STRICT_LOGGING;
  }

  /**
   * Takes note of a pull, before it is answered. Throws `unavailable` when the log could not be written for FAILING_MAX_MS
   * or too much waits already, unless the config allows pulls without strict logging.
   */
  pull(
    caller: Caller,
    repository: Pick<RepositoryFacts, "id" | "name" | "namespace" | "namespaceId">,
    reference: Reference,
    origin: () => RequestOrigin,
  ): void {
    if (this.#unloggedPulls.has(repository.namespace)) return;
    const nowMs = this.#options.clock.nowMs();
    this.#openFor(nowMs);
    const { principal, credential } = caller;
    const text = formatReference(reference);
    const known = caller.grants && this.#openByToken.get(caller.grants);
    const again = known?.find((pull) => pull.repositoryId === repository.id && pull.reference === text);
    if (again) {
      again.entry.count++;
      return;
    }
    const request = origin();
    const token = credential && "uuid" in credential ? credential.uuid : "";
    const key = `${repository.id} ${text} ${principal?.accountId ?? ""} ${token} ${request.ip} ${request.userAgent}`;
    const same = this.#countUp(key);
    if (same) {
      this.#openToToken(caller, repository.id, text, same);
      return;
    }
    if (this.#isStuck(nowMs)) {
      this.#refusePull();
      return;
    }
    const metadata = {
      ...repositoryMetadata(caller, repository, request),
      ...(reference.kind === "tag" ? { tag: text } : { manifest_digest: text }),
    };
    const { namespace, namespaceId } = repository;
    const entry: Waiting = {
      note: {
        kind: "pull_repo",
        namespace: { id: namespaceId, name: namespace },
        repositoryId: repository.id,
        performer: principal && { id: principal.accountId, name: principal.username },
        metadata,
      },
      ip: request.ip,
      createdMs: nowMs,
      isPull: true,
      count: 1,
    };
    this.#add(key, entry);
    this.#openToToken(caller, repository.id, text, entry);
  }

  /** Takes note of anything else. Never throws: when too much waits, the entry is dropped and counted. */
  note(note: AuditNote): void {
    if (note.namespace && this.#unlogged.has(note.namespace.name)) return;
    const nowMs = this.#options.clock.nowMs();
    this.#openFor(nowMs);
    const { request, ...rest } = note;
    const key = JSON.stringify([rest, request.ip]);
    if (this.#countUp(key)) return;
    if (this.#extras >= EXTRAS_MAX || this.#waiting.length >= WAITING_MAX) {
      this.#drop(note.kind);
      return;
    }
    this.#extras++;
    this.#add(key, { note: rest, ip: request.ip, createdMs: nowMs, isPull: false, count: 1 });
  }

  /** Writes what waits now. True when nothing is left that could not be written. */
  flush(): Promise<boolean> {
    this.#flushing ??= this.#writeAll().finally(() => {
      this.#flushing = undefined;
      if (this.#waiting.length > 0) this.#schedule(this.#failingSinceMs === undefined ? FLUSH_MS : RETRY_MS);
    });
    return this.#flushing;
  }

  /** Writes what waits and takes no more. What cannot be written in some tries is lost, and told. */
  async close(): Promise<void> {
    for (let tries = 0; tries < CLOSE_TRIES && this.#waiting.length > 0; tries++) {
      if (tries > 0) await Bun.sleep(100 * tries);
      await this.flush();
    }
    this.#closed = true;
    clearTimeout(this.#timer);
    const lost = this.#waiting.reduce((sum, { count }) => sum + count, 0);
    if (lost > 0) this.#options.log.error("action-log entries are lost: they could not be written", { entries: lost });
  }

  /** What was noted in another second does not count up any more. */
  #openFor(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    if (second === this.#openSecond) return;
    this.#openSecond = second;
    this.#closeOpen();
  }

  #closeOpen(): void {
    this.#open.clear();
    this.#openByToken.clear();
  }

  /** One more of an entry that waits already, undefined when there is none. */
  #countUp(key: string): Waiting | undefined {
    const same = this.#open.get(key);
    if (same) same.count++;
    return same;
  }

  #openToToken({ grants }: Caller, repositoryId: number, reference: string, entry: Waiting): void {
    if (grants === undefined || this.#closed) return;
    const known = this.#openByToken.get(grants);
    if (!known) this.#openByToken.set(grants, [{ repositoryId, reference, entry }]);
    else if (known.length < PULLS_OF_TOKEN_MAX) known.push({ repositoryId, reference, entry });
  }

  #add(key: string, entry: Waiting): void {
    if (this.#closed) {
      this.#drop(entry.note.kind);
      return;
    }
    this.#open.set(key, entry);
    this.#waiting.push(entry);
    this.#schedule(FLUSH_MS);
  }

  #schedule(delayMs: number): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, delayMs);
    // What waits is written by `close`; it need not keep a process alive that wants to end.
    this.#timer.unref();
  }

  #isStuck(nowMs: number): boolean {
    if (this.#waiting.length >= WAITING_MAX) return true;
    return this.#failingSinceMs !== undefined && nowMs - this.#failingSinceMs > FAILING_MAX_MS;
  }

  #refusePull(): void {
    if (this.#mayDropPulls) {
      this.#drop("pull_repo");
      return;
    }
    throw new RegistryError("unavailable", {
      message: "pulls are refused while the action log cannot be written (see ALLOW_PULLS_WITHOUT_STRICT_LOGGING)",
    });
  }

  #drop(kind: ActionKind): void {
    const { metrics, clock, log } = this.#options;
    metrics.auditDropped.inc({ kind });
    this.#dropped++;
    const nowMs = clock.nowMs();
    if (nowMs - this.#toldDroppedMs < TELL_DROPPED_MS) return;
    this.#toldDroppedMs = nowMs;
    log.error("action-log entries are dropped: too many wait or the log cannot be written", {
      kind,
      droppedSinceStart: this.#dropped,
    });
  }

  /** Writes what waits when it begins: on a busy registry there is always more by the time that is done. */
  async #writeAll(): Promise<boolean> {
    for (let left = this.#waiting.length; left > 0; ) {
      const chunk = this.#waiting.slice(0, Math.min(left, CHUNK_MAX));
      left -= chunk.length;
      // From here on these do not count up any more: what is being written must stay as it is.
      this.#closeOpen();
      try {
        await this.#write(chunk);
      } catch (error) {
        const { clock, log } = this.#options;
        if (this.#failingSinceMs === undefined) log.error("the action log cannot be written", errorFields(error));
        this.#failingSinceMs ??= clock.nowMs();
        return false;
      }
      this.#waiting = this.#waiting.slice(chunk.length);
      this.#extras -= chunk.filter(({ isPull }) => !isPull).length;
      if (this.#failingSinceMs !== undefined) this.#options.log.info("the action log can be written again");
      this.#failingSinceMs = undefined;
    }
    return true;
  }

  async #write(chunk: readonly Waiting[]): Promise<void> {
    const ids = await this.#options.resolve(chunk.map(({ note }) => note));
    await this.#options.sink.write(
      chunk.map(({ note, ip, createdMs, count }) => ({
        kind: note.kind,
        namespaceId: note.namespace?.id ?? ids.account(note.namespace?.name),
        performerId: note.performer?.id ?? ids.account(note.performer?.name),
        repositoryId: note.repositoryId ?? ids.repository(note.repositoryPath),
        ip,
        metadata: JSON.stringify(note.metadata),
        createdMs,
        count,
      })),
    );
  }
}
