/**
 * `berth migrate --from URI --to URI`, `--check` and `--reopen`: what an operator gives and sees. How rows travel is in
 * `db/move`.
 */

import { realpathSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { bootLogger } from "../boot.ts";
import { formatDatabaseUri, parseDatabaseUri } from "../config/db-uri.ts";
import type { Config } from "../config/load.ts";
import type { Database } from "../db/db.ts";
import { compareDatabases } from "../db/move/compare.ts";
import { type MoveProgress, moveDatabase, reopenDatabase, requireVersion } from "../db/move/move.ts";
import { findUnopenable } from "../db/move/secrets.ts";
import { openDatabase, sqlitePath } from "../db/open.ts";
import { complain, EXIT, type Invocation, UsageError } from "./invocation.ts";
import { loadFor, text } from "./load.ts";

/** What it prints when it is not told what to do. */
export const USAGE = `usage: berth migrate [--config PATH] [--data DIR]                    bring the schema up to date
       berth migrate --from URI --to URI [--check]   move to another database; with --check compare the two
       berth migrate --reopen [--from URI]           take back that a database was moved

URIs as in DB_URI; --from is the config's own when it is left out. In the environment, where other users of the machine
do not see a password: BERTH_MIGRATE_FROM and BERTH_MIGRATE_TO.`;

/** Between two lines of progress, in a terminal and elsewhere. */
const PROGRESS_MS = { terminal: 1_000, log: 10_000 } as const;

export async function moveCommand(invocation: Invocation): Promise<number> {
  const { options, env, positionals } = invocation;
  const { config } = loadFor(invocation);
  const from = text(options.from) || env.BERTH_MIGRATE_FROM || config.DB_URI;
  const to = text(options.to) || env.BERTH_MIGRATE_TO;
  const isReopen = options.reopen === true;
  if (positionals.length > 0 || isReopen === Boolean(to) || (isReopen && options.check === true)) {
    return complain(USAGE, EXIT.usage);
  }
  requireFile(from, "source");
  if (isReopen) return withDatabases(config, [from], ([db]) => reopen(db));
  if (to === undefined) return complain(USAGE, EXIT.usage);
  requireAnother(from, to);
  if (options.check !== true) return withDatabases(config, [from, to], (dbs) => move(dbs, config, [from, to]));
  requireFile(to, "target");
  return withDatabases(config, [from, to], check);
}

async function move([from, to]: Pair, config: Config, uris: readonly [string, string]): Promise<number> {
  await requireVersion(from);
  for (const column of await findUnopenable(from, config.DATABASE_SECRET_KEY)) {
    say(
      `warning: the DATABASE_SECRET_KEY of this config does not open what "${column}" holds; give the instances on the new database the key they have now`,
    );
  }
  const [fromName, toName] = [shownUri(uris[0]), shownUri(uris[1])];
  const startMs = performance.now();
  const onProgress = progress();
  const { tables, closedMs } = await moveDatabase({ from, to, fromName, toName, onProgress, onStep: say });
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  print(
    ["table", "rows", "sha256 of the rows"],
    tables.map((table) => [table.name, String(table.rows), table.hash.slice(0, 16)]),
  );
  const seconds = (ms: number) => (ms / 1000).toFixed(1);
  process.stdout.write(
    `moved ${rows} rows of ${tables.length} tables in ${seconds(performance.now() - startMs)} s, all equal in both databases; changes waited for ${seconds(closedMs)} s\n` +
      `now set DB_URI to "${toName}" and restart every instance: those that run answer pulls and refuse changes\n`,
  );
  return EXIT.ok;
}

async function check([from, to]: Pair): Promise<number> {
  await requireVersion(from);
  await requireVersion(to, "target");
  const tables = await compareDatabases(from, to, progress());
  const wrong = tables.filter(({ missing, extra, different }) => missing + extra + different > 0);
  print(
    ["table", "rows", "missing", "extra", "different", "keys"],
    (wrong.length > 0 ? wrong : tables).map((table) => [
      table.name,
      ...[table.rows, table.missing, table.extra, table.different].map(String),
      table.examples.join(", "),
    ]),
  );
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  if (wrong.length === 0) {
    process.stdout.write(`${rows} rows of ${tables.length} tables are equal in both databases\n`);
    return EXIT.ok;
  }
  process.stdout.write(`${wrong.length} of ${tables.length} tables differ (what is written meanwhile shows as well)\n`);
  return EXIT.failed;
}

async function reopen(db: Database): Promise<number> {
  const was = await reopenDatabase(db);
  const what = was
    ? "this database takes changes again; what was changed in the one it was moved to is not here"
    : "this database was not moved: nothing to take back";
  process.stdout.write(`${what}\n`);
  return EXIT.ok;
}

type Pair = readonly [Database, Database];

/** Opens one or two databases and closes them whatever happens. */
async function withDatabases<const Uris extends readonly string[]>(
  config: Config,
  uris: Uris,
  work: (databases: { readonly [Index in keyof Uris]: Database }) => Promise<number>,
): Promise<number> {
  const opened: Database[] = [];
  try {
    for (const uri of uris) {
      // The arguments belong to the config's own database; another one brings its own in its URI.
      const args = uri === config.DB_URI ? { connectionArgs: config.DB_CONNECTION_ARGS } : {};
      opened.push(await openDatabase({ uri, ...args, log: bootLogger(config) }));
    }
    return await work(opened as { readonly [Index in keyof Uris]: Database });
  } finally {
    await Promise.all(opened.map((db) => db.close()));
  }
}

/** A SQLite file is made when it is opened: one that is to be read must be there before. */
function requireFile(uri: string, what: string): void {
  if (!uri.startsWith("sqlite")) return;
  const path = sqlitePath(uri);
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return;
  throw new UsageError(`the ${what} "${path}" is not there; name the file of a registry`);
}

function requireAnother(from: string, to: string): void {
  if (from !== to && (fileOf(from) === undefined || fileOf(from) !== fileOf(to))) return;
  throw new UsageError("--from and --to name the same database");
}

function fileOf(uri: string): string | undefined {
  if (!uri.startsWith("sqlite")) return undefined;
  const path = sqlitePath(uri);
  return statSync(path, { throwIfNoEntry: false }) === undefined ? undefined : realpathSync(path);
}

/** Without password and parameters, which may hold one. A file's path is absolute: a config counts from its own folder. */
function shownUri(uri: string): string {
  const parsed = parseDatabaseUri(uri);
  if (!parsed) return "(an address of another form)";
  const database = parsed.scheme === "sqlite" ? resolve(parsed.database) : parsed.database;
  return formatDatabaseUri({ ...parsed, database, password: undefined, query: "" });
}

function progress(): (progress: MoveProgress) => void {
  const pauseMs = process.stderr.isTTY ? PROGRESS_MS.terminal : PROGRESS_MS.log;
  let phase = "";
  let startMs = 0;
  let toldMs = 0;
  return (now) => {
    const nowMs = performance.now();
    if (now.phase !== phase) {
      phase = now.phase;
      startMs = nowMs;
      toldMs = nowMs;
    }
    if (nowMs - toldMs < pauseMs) return;
    toldMs = nowMs;
    const rate = Math.round((now.rows / Math.max(nowMs - startMs, 1)) * 1000);
    say(
      `${now.phase}: ${now.rows} rows, ${now.tablesDone} of ${now.tables} tables, now "${now.table}", ${rate} rows/s`,
    );
  };
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Columns aligned: names and texts to the left, numbers to the right. */
function print(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => (row[column] ?? "").length)));
  for (const row of [head, ...rows]) {
    const cells = row.map((cell, column) => {
      const isNumber = rows.every((each) => /^\d+$/.test(each[column] ?? ""));
      return isNumber ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0);
    });
    process.stdout.write(`${cells.join("  ").trimEnd()}\n`);
  }
}
