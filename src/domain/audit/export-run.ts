/**
 * Exports in the background, one bounded step at a time: make a file, tell whoever asked, remove what has expired. A step
 * takes its row with a lease, so that instances share the work and a dead one's row comes back.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { sendLogExport } from "../mail/mail.ts";
import { EXPORT_ATTEMPTS, exportKey } from "./export.ts";
import { ExportTimedOut, type ExportToMake, makeExportFile } from "./export-file.ts";
import { MESSAGE_SHOWN_MAX, printable } from "./printable.ts";
import { formatDay } from "./range.ts";

type RunApp = Pick<App, "config" | "db" | "storage" | "clock" | "log" | "logsink" | "outbound" | "mailer" | "secrets">;

/** A dead instance's export comes back after the first; a living one renews it between pages, so often. */
const LEASE_MS = 2 * 60_000;
const KEEP_MS = 20_000;
const DAY_MS = 24 * 3600 * 1000;
/** What failed stays to be read by an operator for this long. */
const FAILED_MS = DAY_MS;
const CALLBACK_TIMEOUT_MS = 30_000;
/** What is answered to a callback is not read beyond its status. */
const CALLBACK_ANSWER_BYTES_MAX = 1024 * 1024;
/** Rows removed in one step. */
const EXPIRED_MAX = 20;

type Outcome = "success" | "failed" | "timedout";

interface TakenExport extends ExportToMake {
  readonly state: "queued" | "made";
  readonly outcome: Outcome;
  readonly callbackUrl: string | undefined;
  readonly callbackEmail: string | undefined;
  readonly baseUrl: string;
  /** What an earlier try left unfinished. */
  readonly upload: { readonly id: string; readonly state: string } | undefined;
  readonly attemptsLeft: number;
}

/** Makes one file or tells of one. Gives 1, or 0 when none is due. `owner` names this instance. */
export async function runExports(app: RunApp, owner: string): Promise<number> {
  const item = await takeExport(app, owner);
  if (!item) return 0;
  if (item.state === "queued") await make(app, owner, item);
  else await tell(app, owner, item);
  return 1;
}

/** Removes some files whose link is over, and their rows. Gives how many. */
export async function sweepExports(app: RunApp): Promise<number> {
  const { nowMs } = app.db.dialect;
  const rows = await app.db.sql<{
    id: string;
    file_id: string;
    location: string;
    upload_id: string | null;
    upload_state: string | null;
  }>`/* export.expired */
    select id, file_id, location, upload_id, upload_state from log_export
    where expires_ms <= ${nowMs} and (lease_until_ms is null or lease_until_ms <= ${nowMs})
    order by expires_ms limit ${EXPIRED_MAX}`;
  for (const row of rows) {
    const driver = app.storage.driver(row.location);
    if (row.upload_id !== null) await driver.deleteUpload(row.upload_id, row.upload_state ?? "");
    await driver.delete(exportKey(app, row.file_id));
    await app.db.tx(async (tx) => {
      await tx.sql`/* export.delete */ delete from log_export where id = ${row.id}`;
    });
  }
  return rows.length;
}

async function takeExport(app: RunApp, owner: string): Promise<TakenExport | undefined> {
  // Leases go by the database's clock, the one that all instances share.
  const { nowMs } = app.db.dialect;
  const [row] = await app.db.tx(
    async (tx) =>
      await tx.sql<ExportRow>`/* export.take */
      update log_export set lease_owner = ${owner}, lease_until_ms = ${nowMs} + ${LEASE_MS},
        attempts_left = attempts_left - 1
      where id = (
        select id from log_export
        where state in ('queued', 'made') and due_ms <= ${nowMs} and (lease_until_ms is null or lease_until_ms <= ${nowMs})
        order by due_ms, id limit 1 ${tx.dialect.skipLocked})
        and state in ('queued', 'made') and (lease_until_ms is null or lease_until_ms <= ${nowMs})
      returning id, namespace_id, namespace, repository_id, repository, start_ms, end_ms, callback_url, callback_email,
                base_url, state, outcome, file_id, location, upload_id, upload_state, attempts_left`,
  );
  return row && decodeExport(row);
}

async function make(app: RunApp, owner: string, item: TakenExport): Promise<void> {
  let keptMs = app.clock.nowMs();
  try {
    // Whoever had it last did not live to fail.
    if (item.attemptsLeft < 0) throw new Error("every instance that tried was ended while it did");
    if (item.upload) await app.storage.driver(item.location).deleteUpload(item.upload.id, item.upload.state);
    const uploadId = crypto.randomUUID();
    const note = (state: string | null) => app.db.tx((tx) => keep(tx, owner, item.id, { id: uploadId, state }));
    await note(null);
    await makeExportFile(app, item, uploadId, {
      onStarted: note,
      async keepAlive() {
        const nowMs = app.clock.nowMs();
        if (nowMs - keptMs < KEEP_MS) return;
        await app.db.tx((tx) => keep(tx, owner, item.id));
        keptMs = nowMs;
      },
    });
    await finishMaking(app, owner, item, "success", undefined);
  } catch (error) {
    const timedOut = error instanceof ExportTimedOut;
    app.log.warn("an export of the action log failed", { export: item.id, timedOut, ...errorFields(error) });
    if (timedOut) await finishMaking(app, owner, item, "timedout", "it took too long");
    else if (item.attemptsLeft <= 0) await finishMaking(app, owner, item, "failed", reasonOf(error));
    else await postpone(app, owner, item, reasonOf(error));
  }
}

/** The file is there, or never will be: now somebody is to be told, and the link's time begins. */
async function finishMaking(
  app: RunApp,
  owner: string,
  item: TakenExport,
  outcome: Outcome,
  reason: string | undefined,
): Promise<void> {
  const { nowMs } = app.db.dialect;
  const livesMs = outcome === "success" ? app.config.EXPORT_ACTION_LOGS_SECONDS * 1000 : FAILED_MS;
  await app.db.tx(async (tx) => {
    await tx.sql`/* export.made */
      update log_export
      set state = 'made', outcome = ${outcome}, reason = ${reason ?? null}, due_ms = ${nowMs}, upload_id = null, upload_state = null,
          lease_owner = null, lease_until_ms = null, attempts_left = ${EXPORT_ATTEMPTS}, expires_ms = ${nowMs} + ${livesMs}
      where id = ${item.id} and lease_owner = ${owner} and state = 'queued'`;
  });
}

async function tell(app: RunApp, owner: string, item: TakenExport): Promise<void> {
  try {
    if (item.callbackUrl !== undefined) {
      await callBack(app, item, item.callbackUrl);
      // Told once: should the mail fail, only the mail is tried again.
      await app.db.tx(async (tx) => {
        await tx.sql`/* export.called */ update log_export set callback_url = null
          where id = ${item.id} and lease_owner = ${owner}`;
      });
    }
    if (item.callbackEmail !== undefined) await sendMail(app, item, item.callbackEmail);
    await endTelling(app, owner, item, "done", undefined);
  } catch (error) {
    const isFinal = item.attemptsLeft <= 0 || (error instanceof RegistryError && error.code === "invalid_request");
    app.log.warn("nobody could be told of an export of the action log", {
      export: item.id,
      givenUp: isFinal,
      ...errorFields(error),
    });
    if (isFinal) await endTelling(app, owner, item, "failed", reasonOf(error));
    else await postpone(app, owner, item, reasonOf(error));
  }
}

async function callBack(app: RunApp, item: TakenExport, url: string): Promise<void> {
  const answer = await app.outbound({
    method: "POST",
    url,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      export_id: item.id,
      start_time: formatDay(item.startMs),
      end_time: formatDay(item.endMs - DAY_MS),
      namespace: item.namespace,
      repository: item.repository ?? null,
      exported_data_url: item.outcome === "success" ? linkOf(item) : null,
      status: item.outcome,
    }),
    timeoutMs: CALLBACK_TIMEOUT_MS,
    answerBytesMax: CALLBACK_ANSWER_BYTES_MAX,
  });
  if (answer.status >= 200 && answer.status < 300) return;
  throw new RegistryError("downstream_issue", { message: `the callback answered ${answer.status}, not 200` });
}

function sendMail(app: RunApp, item: TakenExport, to: string): Promise<void> {
  const lifetimeMs = app.config.EXPORT_ACTION_LOGS_SECONDS * 1000;
  const { outcome } = item;
  return sendLogExport(app, {
    to,
    exportId: item.id,
    subject: item.repository === undefined ? item.namespace : `${item.namespace}/${item.repository}`,
    fromDate: formatDay(item.startMs),
    toDate: formatDay(item.endMs - DAY_MS),
    outcome: outcome === "success" ? { status: "success", url: linkOf(item), lifetimeMs } : { status: outcome },
  });
}

function linkOf(item: TakenExport): string {
  return `${item.baseUrl}/exportedlogs/${item.fileId}`;
}

async function endTelling(
  app: RunApp,
  owner: string,
  item: TakenExport,
  state: "done" | "failed",
  reason: string | undefined,
): Promise<void> {
  await app.db.tx(async (tx) => {
    await tx.sql`/* export.end */
      update log_export
      set state = ${state}, reason = coalesce(${reason ?? null}, reason), lease_owner = null, lease_until_ms = null
      where id = ${item.id} and lease_owner = ${owner}`;
  });
}

/** Twice the pause with each try, from the worker's own period. */
async function postpone(app: RunApp, owner: string, item: TakenExport, reason: string): Promise<void> {
  const tries = Math.max(0, EXPORT_ATTEMPTS - 1 - item.attemptsLeft);
  const pauseMs = app.config.EXPORT_ACTION_LOGS_WORKER_POLL_PERIOD * 1000 * 2 ** tries;
  await app.db.tx(async (tx) => {
    await tx.sql`/* export.postpone */
      update log_export set due_ms = ${tx.dialect.nowMs} + ${pauseMs}, reason = ${reason}, lease_owner = null, lease_until_ms = null
      where id = ${item.id} and lease_owner = ${owner}`;
  });
}

/** Throws when the export has gone to another instance. */
async function keep(tx: Tx, owner: string, id: string, upload?: { id: string; state: string | null }): Promise<void> {
  const noted = upload ? tx.sql`, upload_id = ${upload.id}, upload_state = ${upload.state}` : tx.sql``;
  const kept = await tx.sql`/* export.keep */
    update log_export set lease_until_ms = ${tx.dialect.nowMs} + ${LEASE_MS} ${noted}
    where id = ${id} and lease_owner = ${owner} returning id`;
  if (kept.length === 0) throw new Error("another instance makes this export now");
}

function reasonOf(error: unknown): string {
  return printable(error instanceof Error ? error.message : String(error), MESSAGE_SHOWN_MAX);
}

interface ExportRow {
  id: string;
  namespace_id: number;
  namespace: string;
  repository_id: number | null;
  repository: string | null;
  start_ms: number;
  end_ms: number;
  callback_url: string | null;
  callback_email: string | null;
  base_url: string;
  state: "queued" | "made";
  outcome: Outcome | null;
  file_id: string;
  location: string;
  upload_id: string | null;
  upload_state: string | null;
  attempts_left: number;
}

function decodeExport(row: ExportRow): TakenExport {
  return {
    id: row.id,
    namespaceId: toNumber(row.namespace_id),
    namespace: row.namespace,
    repositoryId: row.repository_id === null ? undefined : toNumber(row.repository_id),
    repository: row.repository ?? undefined,
    startMs: toNumber(row.start_ms),
    endMs: toNumber(row.end_ms),
    callbackUrl: row.callback_url ?? undefined,
    callbackEmail: row.callback_email ?? undefined,
    baseUrl: row.base_url,
    state: row.state,
    outcome: row.outcome ?? "success",
    fileId: row.file_id,
    location: row.location,
    upload: row.upload_id === null ? undefined : { id: row.upload_id, state: row.upload_state ?? "" },
    attemptsLeft: toNumber(row.attempts_left),
  };
}
