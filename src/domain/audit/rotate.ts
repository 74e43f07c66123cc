/**
 * Archiving: entries older than ACTION_LOG_ROTATION_THRESHOLD leave the database for files of JSON lines, compressed, in
 * the store ACTION_LOG_ARCHIVE_LOCATION. One instance at a time, in small steps, each of which may be cut anywhere: an
 * entry is deleted only when its file is durable. Source: quay-behaviour reference, section 13.
 */

import { promisify } from "node:util";
import { constants, gzip } from "node:zlib";
import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { StoredLogEntry } from "../../logsink/contract.ts";
import { fileKey } from "../../storage/paths.ts";
import { decodeEntry, type EntryRow } from "./database-sink.ts";
import { parseMetadata } from "./list.ts";
import { storeFile } from "./store-file.ts";

type RotateApp = Pick<App, "config" | "db" | "storage" | "clock" | "log">;

/** Entries of one file, as in Quay, and the bytes at which it ends earlier. */
const ROWS_MAX = 5_000;
const FILE_BYTES_MAX = 8 * 1024 * 1024;
/** Rows deleted in one transaction: on SQLite it holds up the thread for some milliseconds. */
const DELETE_MAX = 250;
/** Longer than a step takes by far; a killed instance's turn is over then. */
const LEASE_MS = 5 * 60_000;

interface Turn {
  readonly owner: string;
  readonly archived: { createdMs: number; id: number; idMax: number } | undefined;
}

/**
 * One bounded step; gives how many entries it archived or deleted, 0 when there is nothing to do now. Not before
 * ACTION_LOG_ROTATION_FREQUENCY after the last run came to its end, and never entries younger than
 * MINIMUM_LOGS_AGE_FOR_ARCHIVE. `owner` names this instance.
 */
export async function rotateLogs(app: RotateApp, owner: string): Promise<number> {
  if (!app.config.FEATURE_ACTION_LOG_ROTATION) return 0;
  const turn = await takeTurn(app, owner);
  if (!turn) return 0;
  if (turn.archived) return deleteArchived(app, turn.owner, turn.archived);
  const archived = await archiveOldest(app, owner);
  if (archived === 0) await endTurn(app, owner);
  return archived;
}

/** The right to archive for some minutes, undefined when it is somebody else's or not time yet. */
async function takeTurn(app: RotateApp, owner: string): Promise<Turn | undefined> {
  // By the database's clock, the one that all instances share.
  const { nowMs } = app.db.dialect;
  const pauseMs = app.config.ACTION_LOG_ROTATION_FREQUENCY * 1000;
  const row = await app.db.tx(async (tx) => {
    const [taken] = await tx.sql<{
      upload_id: string | null;
      upload_location: string | null;
      upload_state: string | null;
      archived_created_ms: number | null;
      archived_id: number | null;
      archived_id_max: number | null;
    }>`/* rotate.take */
      update log_rotation set lease_owner = ${owner}, lease_until_ms = ${nowMs} + ${LEASE_MS}
      where id = 1 and (lease_until_ms is null or lease_until_ms <= ${nowMs} or lease_owner = ${owner})
        and (finished_ms is null or finished_ms <= ${nowMs} - ${pauseMs})
      returning upload_id, upload_location, upload_state, archived_created_ms, archived_id, archived_id_max`;
    return taken;
  });
  if (!row) return undefined;
  if (row.upload_id !== null && row.upload_location !== null) {
    // What an instance was writing when it died.
    await app.storage.driver(row.upload_location).deleteUpload(row.upload_id, row.upload_state ?? "");
    await app.db.tx((tx) => noteUpload(tx, owner, undefined));
  }
  const { archived_created_ms: createdMs, archived_id: id, archived_id_max: idMax } = row;
  if (createdMs === null || id === null || idMax === null) return { owner, archived: undefined };
  return { owner, archived: { createdMs: toNumber(createdMs), id: toNumber(id), idMax: toNumber(idMax) } };
}

/** Writes the oldest entries into a file. Gives how many. */
async function archiveOldest(app: RotateApp, owner: string): Promise<number> {
  const { config } = app;
  const ageMs = Math.max(
    durationMs(config.ACTION_LOG_ROTATION_THRESHOLD),
    durationMs(config.MINIMUM_LOGS_AGE_FOR_ARCHIVE),
  );
  const rows = await app.db.sql<EntryRow>`/* rotate.oldest */
    select id, kind, namespace_id, performer_id, repository_id, ip, metadata, entry_count, created_ms
    from action_log where created_ms < ${app.clock.nowMs() - ageMs} order by created_ms, id limit ${ROWS_MAX}`;
  const { entries, text } = takeLines(rows.map(decodeEntry));
  const last = entries.at(-1);
  if (!last) return 0;
  const ids = entries.map(({ id }) => id);
  const idMax = ids.reduce((most, id) => Math.max(most, id));
  const idMin = ids.reduce((least, id) => Math.min(least, id));

  const location = config.ACTION_LOG_ARCHIVE_LOCATION ?? app.storage.preferred.location;
  const uploadId = crypto.randomUUID();
  const note = (state: string | null) => app.db.tx((tx) => noteUpload(tx, owner, { id: uploadId, location, state }));
  await note(null);
  await storeFile(app.storage.driver(location), {
    uploadId,
    key: fileKey(config.ACTION_LOG_ARCHIVE_PATH, `${idMin}-${idMax}-logentry3.txt.gz`),
    content: [await compress(text)],
    onStarted: note,
  });
  await app.db.tx(async (tx) => {
    await noteUpload(tx, owner, undefined);
    await tx.sql`/* rotate.archived */
      update log_rotation
      set archived_created_ms = ${last.createdMs}, archived_id = ${last.id}, archived_id_max = ${idMax}
      where id = 1 and lease_owner = ${owner}`;
  });
  app.log.info("archived action-log entries", { entries: entries.length, location });
  return entries.length;
}

/** Deletes some of what is in a durable file. Gives how many, and closes the file's books when none is left. */
async function deleteArchived(
  app: RotateApp,
  owner: string,
  archived: { createdMs: number; id: number; idMax: number },
): Promise<number> {
  return app.db.tx(async (tx) => {
    await requireTurn(tx, owner);
    // An id above the last was written later with an earlier time, by an instance that was slow: it is in no file.
    const deleted = await tx.sql`/* rotate.delete */
      delete from action_log where id in (
        select id from action_log
        where (created_ms, id) <= (${archived.createdMs}, ${archived.id}) and id <= ${archived.idMax}
        order by created_ms, id limit ${DELETE_MAX})
      returning id`;
    if (deleted.length < DELETE_MAX) {
      await tx.sql`/* rotate.deleted */
        update log_rotation set archived_created_ms = null, archived_id = null, archived_id_max = null where id = 1`;
    }
    // One more step is always asked for: it finds what to archive next, or that there is nothing.
    return Math.max(1, deleted.length);
  });
}

async function endTurn(app: RotateApp, owner: string): Promise<void> {
  await app.db.tx(async (tx) => {
    await tx.sql`/* rotate.end */
      update log_rotation set finished_ms = ${tx.dialect.nowMs}, lease_owner = null, lease_until_ms = null
      where id = 1 and lease_owner = ${owner}`;
  });
}

/** Throws when another instance has taken over, which has its own idea of what is archived. */
async function requireTurn(tx: Tx, owner: string): Promise<void> {
  const kept = await tx.sql`/* rotate.keep */
    update log_rotation set lease_until_ms = ${tx.dialect.nowMs} + ${LEASE_MS}
    where id = 1 and lease_owner = ${owner} returning id`;
  if (kept.length === 0) throw new Error("another instance archives the action log now");
}

async function noteUpload(
  tx: Tx,
  owner: string,
  upload: { id: string; location: string; state: string | null } | undefined,
): Promise<void> {
  await tx.sql`/* rotate.upload */
    update log_rotation
    set upload_id = ${upload?.id ?? null}, upload_location = ${upload?.location ?? null},
        upload_state = ${upload?.state ?? null}
    where id = 1 and lease_owner = ${owner}`;
}

/** As many entries as fit into a file, one JSON object a line. */
function takeLines(rows: readonly StoredLogEntry[]): { entries: StoredLogEntry[]; text: string } {
  const entries: StoredLogEntry[] = [];
  let text = "";
  for (const entry of rows) {
    if (text.length > FILE_BYTES_MAX) break;
    entries.push(entry);
    text += `${JSON.stringify(lineOf(entry))}\n`;
  }
  return { entries, text };
}

/** Quay's fields. Where it numbers kinds this has their names, and a count where entries share a line. */
function lineOf(entry: StoredLogEntry): Record<string, unknown> {
  return {
    kind: entry.kind,
    account_id: entry.namespaceId ?? null,
    performer_id: entry.performerId ?? null,
    repository_id: entry.repositoryId ?? null,
    datetime: new Date(entry.createdMs).toISOString().replace("T", " ").replace("Z", "000"),
    ip: entry.ip ?? null,
    metadata_json: parseMetadata(entry.metadata),
    ...(entry.count > 1 ? { count: entry.count } : {}),
  };
}

const gzipLater = promisify(gzip);

/** On the thread pool, at the level that Quay uses. */
function compress(text: string): Promise<Uint8Array> {
  return gzipLater(text, { level: constants.Z_BEST_SPEED });
}
