/**
 * The contract of a place where action-log entries go. The database (domain/audit) is the built-in one; others
 * (Elasticsearch, Splunk, Kafka, Kinesis) get entries through `write` and may be unable to give them back. Ids are those of
 * our own tables: a sink knows nothing of names, and entries outlive what they name.
 */

import { RegistryError } from "../errors.ts";

/** One thing that happened, `count` times within the second of `createdMs` when nothing else differs. */
export interface LogEntry {
  readonly kind: string;
  readonly namespaceId: number | undefined;
  readonly performerId: number | undefined;
  readonly repositoryId: number | undefined;
  readonly ip: string | undefined;
  /** A JSON object as text, at most a few KiB. */
  readonly metadata: string;
  /** Epoch ms. */
  readonly createdMs: number;
  /** 1 or more. */
  readonly count: number;
}

export interface StoredLogEntry extends LogEntry {
  /** Orders entries of one millisecond. */
  readonly id: number;
}

/** Which entries: all that are given must hold. */
export interface LogFilter {
  readonly namespaceId?: number | undefined;
  readonly repositoryId?: number | undefined;
  readonly performerId?: number | undefined;
  readonly withoutKinds?: readonly string[] | undefined;
  /** Inclusive, epoch ms. */
  readonly startMs: number;
  /** Exclusive, epoch ms. */
  readonly endMs: number;
}

/** Where a page ended: what follows is older (newest first) or newer (oldest first) than this. */
export interface LogPosition {
  readonly createdMs: number;
  readonly id: number;
}

export interface LogCount {
  readonly kind: string;
  /** Midnight UTC of the day, epoch ms. */
  readonly dayMs: number;
  readonly count: number;
}

/** Reading back. Every call is bounded by `limit` or by the filter's range. */
export interface LogLookup {
  /** Stored entries in order, at most `limit`, after a position or from it on. */
  list(
    filter: LogFilter,
    page: {
      readonly order: "newest" | "oldest";
      readonly limit: number;
      readonly after?: LogPosition | undefined;
      /** Gives the entry at `after` once more: a page may end inside an entry that counts more than one. */
      readonly inclusive?: boolean;
    },
  ): Promise<StoredLogEntry[]>;
  /** How many entries of each kind there were on each day. */
  aggregate(filter: LogFilter): Promise<LogCount[]>;
}

export interface LogSink {
  /** As LOGS_MODEL and its producers name it. */
  readonly name: string;
  /** Takes entries; when it resolves they are safe. Throws when none or only some of them could be kept. */
  write(entries: readonly LogEntry[]): Promise<void>;
  /** Undefined for a sink that only takes. */
  readonly lookup: LogLookup | undefined;
}

/** How a sink is called in the text of a refused look-up. */
const TITLES: Readonly<Record<string, string>> = {
  splunk: "Splunk",
  splunk_hec: "Splunk",
  kafka: "Kafka",
  kinesis_stream: "Kinesis",
};

/** The look-up of a sink. Throws `not_implemented` with Quay's text. Source: quay-behaviour reference, section 13. */
export function requireLookup(sink: LogSink): LogLookup {
  if (sink.lookup) return sink.lookup;
  throw new RegistryError("not_implemented", {
    message: `Method not implemented, ${TITLES[sink.name] ?? sink.name} does not support log lookups`,
  });
}
