/**
 * Confirming an e-mail address: a code goes there by mail and comes back from whoever reads it. For new accounts, whose
 * log-in waits for it, and for another address of an account.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { notifyEmailChanged, sendConfirmation } from "../mail/mail.ts";
import { endCodes, findCode, hasRecentCode, issueCode, takeCode } from "../recovery/email-code.ts";
import { type Account, accountKey, callerFor, findAccountById } from "../user/account.ts";

type ConfirmationApp = Pick<App, "config" | "db" | "clock" | "mailer">;

/** Long enough for a mail that waits over a week-end. Quay's codes have no end. */
const LIFETIME_MS = 3 * 24 * 3600 * 1000;
/** Mails to one address: whoever tries to sign in again and again gets no mail for each try. */
const PAUSE_MS = 60_000;

/** Makes the code that a new account, or a new address of one, waits for. The mail follows after the transaction. */
export function issueConfirmation(
  tx: Tx,
  input: { accountId: number; newEmail?: string; nowMs: number },
): Promise<string> {
  return issueCode(tx, { ...input, kind: "confirm", lifetimeMs: LIFETIME_MS });
}

/** Sends the mail of a new account once more, at most once a minute. Throws `mail_failed`. */
export async function resendConfirmation(
  app: ConfirmationApp,
  account: Pick<Account, "id" | "username" | "email">,
): Promise<void> {
  const { email } = account;
  if (email === undefined) return;
  const nowMs = app.clock.nowMs();
  const code = await app.db.tx(async (tx) => {
    if (await hasRecentCode(tx, account.id, "confirm", nowMs - PAUSE_MS)) return undefined;
    return issueConfirmation(tx, { accountId: account.id, nowMs });
  });
  if (code !== undefined) await sendConfirmation(app, { to: email, username: account.username, code });
}

/** Marks the account's address as confirmed. */
export async function setVerified(tx: Tx, accountId: number): Promise<void> {
  await tx.sql`/* account.set_verified */ update account set verified = true where id = ${accountId}`;
  tx.changed(accountKey(accountId));
}

export interface Confirmation {
  readonly username: string;
  /** The address that is or will be the account's. */
  readonly email: string;
}

/** What a code would confirm; undefined when it is not good any more. */
export async function findConfirmation(
  app: Pick<App, "db" | "clock">,
  code: string,
): Promise<Confirmation | undefined> {
  const found = await findCode(app.db, "confirm", code, app.clock.nowMs());
  const account = found && (await findAccountById(app.db, found.accountId));
  const email = found?.newEmail ?? account?.email;
  return account && email !== undefined ? { username: account.username, email } : undefined;
}

/**
 * Uses a code: the account can be used, or has the new address. Throws `not_found` for a code that is unknown, used or over,
 * `invalid_request` when another account took the address meanwhile.
 */
export async function confirmEmail(app: ConfirmationApp, code: string, request: RequestOrigin): Promise<Confirmation> {
  const nowMs = app.clock.nowMs();
  const { account, oldEmail, email } = await app.db.tx(async (tx) => {
    const taken = await takeCode(tx, "confirm", code, nowMs);
    const account = taken && (await findAccountById(tx, taken.accountId));
    const email = taken?.newEmail ?? account?.email;
    if (account?.kind !== "user" || email === undefined) throw new RegistryError("not_found");
    await setVerified(tx, account.id);
    const oldEmail = taken?.newEmail === undefined ? undefined : account.email;
    const caller = callerFor(app.config, account);
    if (email !== account.email) await changeEmail(tx, { account, email, caller, request, nowMs });
    return { account, oldEmail, email };
  });
  const { username } = account;
  if (oldEmail !== undefined && oldEmail !== email)
    notifyEmailChanged(app, { to: oldEmail, username, newEmail: email });
  return { username, email };
}

export interface EmailChange {
  account: Pick<Account, "id" | "username" | "email">;
  email: string;
  caller: Caller;
  request: RequestOrigin;
  nowMs: number;
}

/** Gives an account another address. Codes that went to the old one end. Throws `invalid_request` when it is taken. */
export async function changeEmail(tx: Tx, { account, email, caller, request, nowMs }: EmailChange): Promise<void> {
  try {
    await tx.sql`/* account.set_email */ update account set email = ${email} where id = ${account.id}`;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw emailTaken();
  }
  await endCodes(tx, account.id, "recovery");
  await endCodes(tx, account.id, "confirm");
  tx.changed(accountKey(account.id));
  const metadata = { username: account.username, email, old_email: account.email ?? null };
  await logAction(tx, { kind: "user_change_email", caller, namespaceId: account.id, request, nowMs, metadata });
}

/** Source: quay-api reference, section 2.2. */
export function emailTaken(): RegistryError {
  return new RegistryError("invalid_request", { message: "E-mail address already used" });
}
