/**
 * Codes that are sent by mail and come back in a link: random, used once, good for a time, and kept as a hash, so that
 * neither the database nor a copy of it opens anything.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { randomText } from "../../lib/random.ts";

/** - confirm: the account's address is its user's, or `newEmail` is to be from now on; - recovery: a new password. */
export type EmailCodeKind = "confirm" | "recovery";

export interface EmailCode {
  readonly accountId: number;
  /** The address that is confirmed, when it is another one than the account has. */
  readonly newEmail: string | undefined;
}

/** 206 bits: not to be guessed. */
const CODE_CHARS = 40;

export interface NewEmailCode {
  accountId: number;
  kind: EmailCodeKind;
  newEmail?: string;
  lifetimeMs: number;
  nowMs: number;
}

/** Makes a code for the account. */
export async function issueCode(tx: Tx, input: NewEmailCode): Promise<string> {
  const { accountId, kind, newEmail, lifetimeMs, nowMs } = input;
  const code = randomText(CODE_CHARS);
  await tx.sql`/* email_code.insert */
    insert into email_code (code_hash, account_id, kind, new_email, created_ms, expires_ms)
    values (${hashOf(code)}, ${accountId}, ${kind}, ${newEmail ?? null}, ${nowMs}, ${nowMs + lifetimeMs})`;
  return code;
}

interface CodeRow {
  account_id: number;
  new_email: string | null;
}

/** What a code stands for, without using it up; undefined for one that is unknown, used or over. */
export async function findCode(
  db: Db,
  kind: EmailCodeKind,
  code: string,
  nowMs: number,
): Promise<EmailCode | undefined> {
  const [row] = await db.sql<CodeRow>`/* email_code.find */
    select account_id, new_email from email_code
    where code_hash = ${hashOf(code)} and kind = ${kind} and expires_ms > ${nowMs}`;
  return row && decode(row);
}

/** Uses a code up. Of two who bring it at once, one gets undefined. */
export async function takeCode(
  tx: Tx,
  kind: EmailCodeKind,
  code: string,
  nowMs: number,
): Promise<EmailCode | undefined> {
  const [row] = await tx.sql<CodeRow>`/* email_code.take */
    delete from email_code where code_hash = ${hashOf(code)} and kind = ${kind} and expires_ms > ${nowMs}
    returning account_id, new_email`;
  return row && decode(row);
}

/** Ends every code of a kind that the account has. */
export async function endCodes(tx: Tx, accountId: number, kind: EmailCodeKind): Promise<void> {
  await tx.sql`/* email_code.end */ delete from email_code where account_id = ${accountId} and kind = ${kind}`;
}

/**
 * Whether a code of this kind was made since `sinceMs`: nobody needs a second mail within a minute. Of two who ask at once,
 * on whichever instance, the second sees what the first made of the answer.
 */
export async function hasRecentCode(tx: Tx, accountId: number, kind: EmailCodeKind, sinceMs: number): Promise<boolean> {
  await tx.sql`/* email_code.lock */ select id from account where id = ${accountId} ${tx.dialect.forNoKeyUpdate}`;
  const rows = await tx.sql`/* email_code.recent */
    select 1 as one from email_code
    where account_id = ${accountId} and kind = ${kind} and created_ms > ${sinceMs} limit 1`;
  return rows.length > 0;
}

/** Removes up to `limit` codes that are over; gives how many there were. */
export async function sweepCodes(app: Pick<App, "db" | "clock">, limit: number): Promise<number> {
  return app.db.tx(async (tx) => {
    const rows = await tx.sql`/* email_code.sweep_all */
      delete from email_code where code_hash in
        (select code_hash from email_code where expires_ms <= ${app.clock.nowMs()} limit ${limit})
      returning code_hash`;
    return rows.length;
  });
}

function decode(row: CodeRow): EmailCode {
  return { accountId: toNumber(row.account_id), newEmail: row.new_email ?? undefined };
}

/** Codes are random, so one round of a plain hash keeps them. */
function hashOf(code: string): string {
  return new Bun.CryptoHasher("sha256").update(code).digest("hex");
}
