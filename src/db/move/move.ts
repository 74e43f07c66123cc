/**
 * Moves everything that one database holds into another while the registry on the first goes on: passes that bring the target
 * closer, then a last one during which the source takes no changes, and the mark by which it never does again. It may be
 * killed anywhere and run again.
 */

import { randomUUID } from "node:crypto";
import { RegistryError } from "../../errors.ts";
import type { Database, Db, Tx } from "../db.ts";
import { schemaVersion } from "../migrate.ts";
import { migrations } from "../migrations.ts";
import { closeForChanges, openForChanges } from "./guard.ts";
import { describeMoved, findMark, lockMark, putMark } from "./mark.ts";
import { type PassResult, passTable } from "./pass.ts";
import { countRows, quote } from "./rows.ts";
import { readTables, requireSameTables, type Table } from "./schema.ts";
import { analyze, type Claim, claimTarget, continueIds, finishTarget, requireClaim, WHOLE_TABLES } from "./target.ts";

/** A pass that changes no more rows than this leaves little for the last one. */
const LITTLE_ROWS = 500;
/** A source that changes faster than it is copied is closed after so many passes all the same. */
const PASSES_MAX = 6;
/** How long the locks of a PostgreSQL source are waited for; everybody who wants to write waits behind us. */
const LOCK_TIMEOUT_MS = 5_000;
const LOCK_TRIES = 5;
/** PostgreSQL: lock_not_available. */
const NO_LOCK = "55P03";

export interface MoveProgress {
  /** `copy`, `catch up` or `last changes`. */
  readonly phase: string;
  readonly table: string;
  /** Tables that are done in this pass, and all of them. */
  readonly tablesDone: number;
  readonly tables: number;
  /** Rows of this pass so far. */
  readonly rows: number;
}

export interface MoveInput {
  readonly from: Database;
  readonly to: Database;
  /** Addresses without passwords, as operators shall read them. */
  readonly fromName: string;
  readonly toName: string;
  onProgress(progress: MoveProgress): void;
  /** Said once per step, in whole sentences. */
  onStep(text: string): void;
}

export interface MovedTable {
  readonly name: string;
  readonly rows: number;
  /** SHA-256 over the hashes of its ranges, equal in both databases. */
  readonly hash: string;
}

export interface MoveResult {
  readonly tables: readonly MovedTable[];
  /** How long the source took no changes before it was left. */
  readonly closedMs: number;
}

/** Throws an Error that says what to do, and `unavailable` or `storage_full` when a database cannot be used. */
export async function moveDatabase(input: MoveInput): Promise<MoveResult> {
  const { from, to } = input;
  await requireVersion(from);
  const claim = { id: await claimSource(from, to), from: input.fromName, run: randomUUID() };
  await requireSound(from);
  await claimTarget(to, claim);
  const tables = await readTables(from);
  requireSameTables(tables, await readTables(to));

  for (let pass = 1; pass <= PASSES_MAX; pass++) {
    const results = await passAll(input, {
      from,
      claim,
      tables,
      verify: false,
      phase: pass === 1 ? "copy" : "catch up",
    });
    const changed = results.reduce((sum, { inserted, deleted }) => sum + inserted + deleted, 0);
    input.onStep(`pass ${pass}: ${changed} rows written or removed`);
    if (pass === 1) await analyze(to);
    // The first pass says nothing of what changed while it ran.
    if (pass > 1 && changed <= LITTLE_ROWS) break;
  }
  const moved = await moveLast(input, claim, tables);
  input.onStep("the source is closed; checking the target's references");
  await finishTarget(to, claim);
  return moved;
}

/**
 * Takes back that a database was moved: instances may start on it again. What was changed in the other one since is not
 * here. Gives false when it was not moved. Throws on the target of an unfinished move.
 */
export async function reopenDatabase(db: Database): Promise<boolean> {
  if ((await schemaVersion(db)) === 0) return false;
  return db.tx(async (tx) => {
    const mark = await lockMark(tx);
    if (mark?.state === "target") {
      throw new Error(
        `The move from "${mark.from}" into this database has not ended: run it once more, or go on with "${mark.from}".`,
      );
    }
    await openForChanges(tx);
    if (mark?.state !== "moved") return false;
    await putMark(tx, { state: "source", id: mark.id });
    return true;
  });
}

/** Throws unless the schema is what this program works with. */
export async function requireVersion(db: Database, name = "source"): Promise<void> {
  const version = await schemaVersion(db);
  if (version === migrations.length) return;
  if (version === 0) throw new Error(`The ${name} holds no registry; name the database that DB_URI named.`);
  const what = `The ${name}'s schema is at version ${version} and this program's at ${migrations.length}`;
  throw new Error(
    version < migrations.length
      ? `${what}: bring it up to date first, with "berth migrate" or by starting this version on it.`
      : `${what}: use the version of berth that the registry runs.`,
  );
}

/** The source's id, by which an interrupted move knows its target again. */
async function claimSource(from: Database, to: Database): Promise<string> {
  return from.tx(async (tx) => {
    const mark = await lockMark(tx);
    if (mark?.state === "target") {
      throw new Error(`The source is itself the target of an unfinished move from "${mark.from}".`);
    }
    if (mark?.state === "moved") {
      const other = (await schemaVersion(to)) === 0 ? undefined : await findMark(to);
      // Killed between closing the source and opening the target: the rest is to be done.
      if (other?.state === "target" && other.id === mark.id) return mark.id;
      throw new Error(`Nothing is left to do: ${describeMoved(mark)}`);
    }
    if (mark) return mark.id;
    const id = randomUUID();
    await putMark(tx, { state: "source", id });
    return id;
  });
}

/** PostgreSQL would refuse references that lead nowhere at the very end; a SQLite file edited by hand may have some. */
async function requireSound(from: Database): Promise<void> {
  if (from.engine !== "sqlite") return;
  const [row] =
    await from.sql`/* move.sound */ select "table", rowid as id, parent from pragma_foreign_key_check limit 1`;
  if (!row) return;
  throw new Error(
    `The source has a row in "${row.table}" (rowid ${row.id}) that refers to a row of "${row.parent}" which is not there; repair or remove it first.`,
  );
}

interface Passing {
  readonly from: Db;
  readonly claim: Claim;
  readonly tables: readonly Table[];
  readonly verify: boolean;
  readonly phase: string;
}

async function passAll(input: MoveInput, { from, claim, tables, verify, phase }: Passing): Promise<PassResult[]> {
  const results: PassResult[] = [];
  let rows = 0;
  for (const [index, table] of tables.entries()) {
    const onRows = (more: number) => {
      rows += more;
      input.onProgress({ phase, table: table.name, tablesDone: index, tables: tables.length, rows });
    };
    results.push(await passTable({ from, to: input.to, claim, table, verify, onRows }));
  }
  return results;
}

/** The source stands still: what is left is copied, all of it is compared, and the source is left for good. */
async function moveLast(input: MoveInput, claim: Claim, tables: readonly Table[]): Promise<MoveResult> {
  const { from, to } = input;
  for (let attempt = 1; ; attempt++) {
    try {
      return await from.tx(async (tx) => {
        await lockTables(tx, tables);
        const startMs = performance.now();
        const results = await passAll(input, { from: tx, claim, tables, verify: true, phase: "last changes" });
        const moved: MovedTable[] = [];
        for (const [index, table] of tables.entries()) {
          const { rows = 0, hash = "" } = results[index] ?? {};
          await requireCount(tx, to, table, rows);
          moved.push({ name: table.name, rows, hash });
        }
        // Durable, and with it everything that was written before.
        await to.tx(async (target) => {
          await requireClaim(target, claim);
          await continueIds(tx, target, tables);
          await target.sql`/* move.settle */ update setting set value = value where key = 'move'`;
        });
        await openForChanges(tx);
        await putMark(tx, { state: "moved", id: claim.id, to: input.toName, atMs: Date.now() });
        await closeForChanges(tx, tables);
        return { tables: moved, closedMs: performance.now() - startMs };
      }, WHOLE_TABLES);
    } catch (error) {
      if (!isUnlocked(error)) throw error;
      if (attempt >= LOCK_TRIES) {
        throw new Error(
          `The source could not be locked ${LOCK_TRIES} times for ${LOCK_TIMEOUT_MS} ms each: a long transaction holds it. Run this again when it is over; the copy so far is kept.`,
          { cause: error },
        );
      }
      input.onStep("the source is busy; trying again to lock it");
      await Bun.sleep(1_000 * attempt);
    }
  }
}

function isUnlocked(error: unknown): boolean {
  const cause = error instanceof RegistryError ? error.cause : error;
  return cause instanceof Error && "code" in cause && cause.code === NO_LOCK;
}

/** SQLite's transaction has the write lock already. Readers go on on both. */
async function lockTables(tx: Tx, tables: readonly Table[]): Promise<void> {
  if (tx.engine === "sqlite") return;
  await tx.script(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await tx.script(`lock table ${tables.map(({ name }) => quote(name)).join(", ")} in share row exclusive mode`);
}

async function requireCount(from: Db, to: Db, table: Table, seen: number): Promise<void> {
  const [here, there] = [await countRows(from, table), await countRows(to, table)];
  if (here === seen && there === seen) return;
  throw new Error(
    `Table "${table.name}" has ${here} rows in the source and ${there} in the target, and ${seen} were compared. The source stays in use; nothing is lost.`,
  );
}
