/** Writes the file of an export: one JSON document, streamed page by page, oldest entry first. Source: quay-behaviour, section 13. */

import type { App } from "../../app.ts";
import { httpDate } from "../../lib/http-date.ts";
import { type LogPosition, requireLookup, type StoredLogEntry } from "../../logsink/contract.ts";
import { exportKey } from "./export.ts";
import { SERVICE_KEY_KINDS } from "./kinds.ts";
import { nameEntries } from "./list.ts";
import { storeFile } from "./store-file.ts";
import { entryView } from "./view.ts";

type ExportApp = Pick<App, "config" | "db" | "storage" | "clock" | "logsink">;

/** An export whose making was begun. */
export interface ExportToMake {
  readonly id: string;
  readonly namespaceId: number;
  readonly namespace: string;
  readonly repositoryId: number | undefined;
  readonly repository: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
  readonly fileId: string;
  readonly location: string;
}

/** It took longer than EXPORT_ACTION_LOGS_MAXIMUM_SECONDS, or one page longer than …_MAXIMUM_QUERY_TIME_SECONDS. */
export class ExportTimedOut extends Error {}

/** Rows of one query. */
const PAGE_ROWS = 500;

/** Makes the file durable. `keepAlive` is called between pages: it throws when the export is somebody else's by now. */
export async function makeExportFile(
  app: ExportApp,
  item: ExportToMake,
  uploadId: string,
  hooks: { onStarted(state: string): Promise<void>; keepAlive(): Promise<void> },
): Promise<void> {
  await storeFile(app.storage.driver(item.location), {
    uploadId,
    key: exportKey(app, item.fileId),
    content: document(app, item, hooks.keepAlive),
    onStarted: hooks.onStarted,
  });
}

async function* document(app: ExportApp, item: ExportToMake, keepAlive: () => Promise<void>): AsyncGenerator<string> {
  const details = {
    start_time: httpDate(item.startMs),
    end_time: httpDate(item.endMs),
    namespace: item.namespace,
    repository: item.repository ?? null,
  };
  yield `{"export_id":${JSON.stringify(item.id)},"details":${JSON.stringify(details)},"logs":[\n`;
  for await (const entries of pages(app, item)) {
    const shown = await nameEntries(app.db, entries);
    for (const [index, entry] of shown.entries()) {
      const text = `${JSON.stringify(entryView(entry, false))},\n`;
      for (let copy = entries[index]?.count ?? 1; copy > 0; copy--) yield text;
    }
    await keepAlive();
  }
  yield '{"terminator":true}]}\n';
}

async function* pages(app: ExportApp, item: ExportToMake): AsyncGenerator<StoredLogEntry[]> {
  const { config, clock } = app;
  const lookup = requireLookup(app.logsink);
  const scope =
    item.repositoryId === undefined ? { namespaceId: item.namespaceId } : { repositoryId: item.repositoryId };
  const filter = { ...scope, withoutKinds: SERVICE_KEY_KINDS, startMs: item.startMs, endMs: item.endMs };
  const deadlineMs = clock.nowMs() + config.EXPORT_ACTION_LOGS_MAXIMUM_SECONDS * 1000;
  let after: LogPosition | undefined;
  for (;;) {
    const askedMs = clock.nowMs();
    const entries = await lookup.list(filter, { order: "oldest", limit: PAGE_ROWS, after });
    const nowMs = clock.nowMs();
    const tooSlow = nowMs - askedMs > config.EXPORT_ACTION_LOGS_MAXIMUM_QUERY_TIME_SECONDS * 1000;
    if (tooSlow || nowMs > deadlineMs) throw new ExportTimedOut();
    if (entries.length > 0) yield entries;
    const last = entries.at(-1);
    if (!last || entries.length < PAGE_ROWS) return;
    after = last;
  }
}
