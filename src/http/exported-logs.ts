/**
 * GET /exportedlogs/{file_id}: the file of an export of the action log, for whoever has its link while that lives. The name
 * is not to be guessed, and nobody logs in here. Source: quay-api reference, section 17.
 */

import type { App } from "../app.ts";
import { findExportedFile } from "../domain/audit/export.ts";
import { RegistryError } from "../errors.ts";
import { errorFields } from "../observe/logger.ts";

const HEADERS = {
  "Content-Type": "application/json",
  "Cache-Control": "no-store",
  // The link is the key: it must not go where the file's reader goes next.
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
};

/** Undefined when there is no such file, or its time is over. */
export async function exportedLogsRoute(app: App, fileId: string, isHead: boolean): Promise<Response | undefined> {
  try {
    const source = await findExportedFile(app, fileId);
    if (!source) return undefined;
    const headers = {
      ...HEADERS,
      "Content-Length": String(source.sizeBytes),
      "Content-Disposition": `attachment; filename="logs-${fileId.slice(0, 36)}.json"`,
    };
    if (isHead) return new Response(null, { headers });
    return new Response(source.kind === "file" ? Bun.file(source.path) : await source.open(), { headers });
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    app.log.error("an exported log cannot be read", errorFields(error));
    return new Response("the file cannot be read now\n", { status: 503, headers: { "Retry-After": "5" } });
  }
}
