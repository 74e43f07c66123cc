/**
 * Browser sessions: rows that a cookie names, so that signing out, changing a password or an administrator can end them at
 * once on every instance. Cookies themselves are http/auth/session.ts.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { unlessMoved } from "../../db/moved.ts";
import type { RequestOrigin } from "../audit/audit.ts";

export interface Session {
  readonly idHash: string;
  readonly accountId: number;
  /** When the password was last asked for. */
  readonly freshMs: number;
  readonly usedMs: number;
}

const TOKEN_BYTES = 32;
/** A session is touched at most this often: a page of twenty calls is one write. */
const TOUCH_MS = 60_000;
/** What a browser may send back as an agent or an address is kept only so far. */
const AGENT_CHARS_MAX = 255;

/** The value of a new cookie: 256 random bits. */
export function newSessionToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(TOKEN_BYTES))).toString("base64url");
}

/** Begins a session and gives its cookie's value. The password has just been checked. */
export async function startSession(
  app: Pick<App, "config">,
  tx: Tx,
  input: { accountId: number; request: RequestOrigin; nowMs: number },
): Promise<string> {
  const token = newSessionToken();
  const { accountId, request, nowMs } = input;
  await tx.sql`/* session.insert */
    insert into session (id_hash, uuid, account_id, created_ms, fresh_ms, used_ms, expires_ms, ip, user_agent)
    values (${hashOf(token)}, ${crypto.randomUUID()}, ${accountId}, ${nowMs}, ${nowMs}, ${nowMs},
            ${nowMs + durationMs(app.config.SESSION_TIMEOUT)}, ${request.ip ?? null},
            ${request.userAgent?.slice(0, AGENT_CHARS_MAX) ?? null})`;
  return token;
}

/** The session a cookie names, undefined when it is unknown, ended or over. */
export async function findSession(db: Db, token: string, nowMs: number): Promise<Session | undefined> {
  const [row] = await db.sql<{
    id_hash: string;
    account_id: number;
    fresh_ms: number;
    used_ms: number;
  }>`/* session.find */
    select id_hash, account_id, fresh_ms, used_ms from session
    where id_hash = ${hashOf(token)} and expires_ms > ${nowMs}`;
  if (!row) return undefined;
  return {
    idHash: row.id_hash,
    accountId: toNumber(row.account_id),
    freshMs: toNumber(row.fresh_ms),
    usedMs: toNumber(row.used_ms),
  };
}

/** Moves the end of a session in use, at most once a minute. */
export async function touchSession(app: Pick<App, "config" | "db">, session: Session, nowMs: number): Promise<void> {
  if (nowMs - session.usedMs < TOUCH_MS) return;
  const expiresMs = nowMs + durationMs(app.config.SESSION_TIMEOUT);
  const touched = app.db.tx(
    async (tx) => {
      await tx.sql`/* session.touch */
        update session set used_ms = ${nowMs}, expires_ms = ${expiresMs} where id_hash = ${session.idHash}`;
    },
    { durable: false },
  );
  await unlessMoved(touched);
}

/** Notes that the password was asked for again. */
export async function refreshSession(tx: Tx, session: Session, nowMs: number): Promise<void> {
  await tx.sql`/* session.fresh */ update session set fresh_ms = ${nowMs} where id_hash = ${session.idHash}`;
}

/** Ends the sessions of an account, all or all but one. */
export async function endSessions(tx: Tx, accountId: number, except?: Session): Promise<void> {
  await tx.sql`/* session.end */
    delete from session where account_id = ${accountId} and id_hash <> ${except?.idHash ?? ""}`;
}

/** Ends the one session that a cookie names. */
export async function endSession(tx: Tx, token: string): Promise<void> {
  await tx.sql`/* session.end_one */ delete from session where id_hash = ${hashOf(token)}`;
}

/** Removes up to `limit` sessions that are over; gives how many there were. */
export async function sweepSessions(app: Pick<App, "db" | "clock">, limit: number): Promise<number> {
  return app.db.tx(async (tx) => {
    const rows = await tx.sql`/* session.sweep */
      delete from session where id_hash in
        (select id_hash from session where expires_ms <= ${app.clock.nowMs()} limit ${limit})
      returning id_hash`;
    return rows.length;
  });
}

function hashOf(token: string): string {
  return new Bun.CryptoHasher("sha256").update(token).digest("hex");
}
