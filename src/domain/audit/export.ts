/**
 * Asking for an export of the log: a row that a worker takes up (`export-run.ts`), and the file for whoever has its link,
 * while that lives. Source: quay-api reference, section 14; quay-behaviour, section 13.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { parseTarget } from "../../lib/safe-fetch.ts";
import { parseEmail } from "../../oci/names.ts";
import type { ObjectSource } from "../../storage/driver.ts";
import { fileKey } from "../../storage/paths.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "./audit.ts";
import { MESSAGE_SHOWN_MAX, printable } from "./printable.ts";
import type { LogRange } from "./range.ts";

export interface ExportRequest {
  readonly namespace: { readonly id: number; readonly name: string };
  readonly repository?: { readonly id: number; readonly name: string } | undefined;
  readonly range: () => LogRange;
  readonly callbackUrl: string | undefined;
  readonly callbackEmail: string | undefined;
  /** Root of this registry's URLs, for the link. */
  readonly baseUrl: string;
  readonly request: RequestOrigin;
}

/** How often the file is tried, and then how often somebody is told. Quay: three retries. */
export const EXPORT_ATTEMPTS = 4;
/** A request that no worker took up for this long is forgotten. */
const UNDONE_MS = 7 * 24 * 3600 * 1000;
/** Exports of one namespace that are not done yet. */
const UNDONE_MAX = 10;

/**
 * Queues an export and gives its id. Throws `invalid_request` for a missing or impossible callback and a range that is
 * none, `too_many_requests` when many of the namespace wait already. Both outcomes are logged.
 */
export async function requestExport(
  app: Pick<App, "config" | "db" | "clock" | "storage" | "audit" | "mailer">,
  caller: Caller,
  input: ExportRequest,
): Promise<string> {
  const { namespace, repository, request, callbackUrl, callbackEmail } = input;
  const where = { url: callbackUrl ?? null, email: callbackEmail ?? null };
  const about = repository ? { repo: repository.name, ...where } : where;
  try {
    const range = input.range();
    requireCallback(app, callbackUrl, callbackEmail);
    const nowMs = app.clock.nowMs();
    return await app.db.tx(async (tx) => {
      await requireFew(tx, namespace.id);
      const exportId = crypto.randomUUID();
      await insertExport(tx, { ...input, range, exportId, nowMs, location: app.storage.preferred.location });
      await logAction(tx, {
        kind: "export_logs_success",
        caller,
        namespaceId: namespace.id,
        repositoryId: repository?.id,
        request,
        nowMs,
        metadata: { export_id: exportId, ...about },
      });
      return exportId;
    });
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code === "unavailable") throw error;
    app.audit.note({
      kind: "export_logs_failure",
      namespace,
      performer: caller.principal && { id: caller.principal.accountId, name: caller.principal.username },
      request,
      metadata: {
        error: printable(error.message, MESSAGE_SHOWN_MAX),
        ...Object.fromEntries(
          Object.entries(about).map(([key, text]) => [key, text === null ? null : printable(text)]),
        ),
      },
    });
    throw error;
  }
}

function requireCallback(app: Pick<App, "mailer">, url: string | undefined, email: string | undefined): void {
  if (url === undefined && email === undefined) {
    throw new RegistryError("invalid_request", {
      message: "Missing callback: either callback_url or callback_email says who is told of the file",
    });
  }
  if (url !== undefined) {
    try {
      parseTarget(url);
    } catch (cause) {
      throw new RegistryError("invalid_request", { message: "Invalid callback URL", cause });
    }
  }
  if (email === undefined) return;
  if (!email.includes("@")) throw new RegistryError("invalid_request", { message: "Invalid callback e-mail" });
  parseEmail(email);
  if (!app.mailer.isOn) {
    throw new RegistryError("invalid_request", {
      message: "Invalid callback e-mail: this registry sends no mail (FEATURE_MAILING is off), use callback_url",
    });
  }
}

async function requireFew(tx: Tx, namespaceId: number): Promise<void> {
  const rows = await tx.sql`/* export.undone */
    select id from log_export where namespace_id = ${namespaceId} and state in ('queued', 'made') limit ${UNDONE_MAX}`;
  if (rows.length < UNDONE_MAX) return;
  throw new RegistryError("too_many_requests", {
    message: `${UNDONE_MAX} exports of this namespace wait already; ask again when one of them is done`,
  });
}

async function insertExport(
  tx: Tx,
  input: Omit<ExportRequest, "range"> & { range: LogRange; exportId: string; nowMs: number; location: string },
): Promise<void> {
  const { exportId, namespace, repository, range, nowMs } = input;
  const fileId = `${exportId}-${crypto.randomUUID()}`;
  await tx.sql`/* export.insert */
    insert into log_export (id, namespace_id, namespace, repository_id, repository, start_ms, end_ms, callback_url,
                            callback_email, base_url, file_id, location, due_ms, attempts_left, created_ms, expires_ms)
    values (${exportId}, ${namespace.id}, ${namespace.name}, ${repository?.id ?? null}, ${repository?.name ?? null},
            ${range.startMs}, ${range.endMs}, ${input.callbackUrl ?? null}, ${input.callbackEmail ?? null},
            ${input.baseUrl}, ${fileId}, ${input.location}, ${nowMs}, ${EXPORT_ATTEMPTS}, ${nowMs},
            ${nowMs + UNDONE_MS})`;
}

/** Key of an export's file. */
export function exportKey(app: Pick<App, "config">, fileId: string): string {
  return fileKey(app.config.EXPORT_ACTION_LOGS_STORAGE_PATH, fileId);
}

const FILE_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The exported file behind a link, undefined when there is none or its time is over. */
export async function findExportedFile(
  app: Pick<App, "config" | "db" | "clock" | "storage">,
  fileId: string,
): Promise<ObjectSource | undefined> {
  if (!FILE_ID.test(fileId)) return undefined;
  const location = await findLocation(app.db, fileId, app.clock.nowMs());
  return location === undefined ? undefined : app.storage.driver(location).source(exportKey(app, fileId));
}

async function findLocation(db: Db, fileId: string, nowMs: number): Promise<string | undefined> {
  const [row] = await db.sql<{ location: string; expires_ms: number }>`/* export.file */
    select location, expires_ms from log_export
    where file_id = ${fileId} and outcome = 'success' and state <> 'queued'`;
  return row && toNumber(row.expires_ms) > nowMs ? row.location : undefined;
}
