/**
 * A forgotten password: a code goes by mail to the account's address, and whoever brings it back chooses a new password.
 * Whether an address is known can be told neither from the answer nor from the time it takes.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Db } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { isValidEmail, parsePassword } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { notifyOrganizationRecovery, notifyPasswordChanged, notifyRecovery } from "../mail/mail.ts";
import { endSessions } from "../session/session.ts";
import { requireHuman } from "../sign-up/captcha.ts";
import { setVerified } from "../sign-up/confirmation.ts";
import { type Account, callerFor, findAccountById, setPasswordHash } from "../user/account.ts";
import { beginSession } from "../user/sign-in.ts";
import { findEmailOwner } from "../user/user-email.ts";
import { endCodes, findCode, hasRecentCode, issueCode, takeCode } from "./email-code.ts";

type RecoveryApp = Pick<
  App,
  "config" | "db" | "clock" | "passwords" | "mailer" | "captcha" | "audit" | "logins" | "log"
>;

/** Between two mails to one account: a mailbox is not to be filled by strangers. */
const PAUSE_MS = 60_000;
/** Names in the mail to an organization. */
const ADMINS_MAX = 20;

/** What Quay answers; an organization's address and name are masked. */
export type RecoveryAnswer =
  | { readonly status: "sent" }
  | { readonly status: "org"; readonly orgemail: string; readonly orgname: string };

/**
 * Begins the recovery of the account with this address, if there is one: everything that only a known address takes happens
 * after the answer. Throws `captcha_failed`. Source: quay-api reference, section 2.
 */
export async function requestRecovery(
  app: RecoveryApp,
  input: { email: string; captcha: string | undefined; caller: Caller; request: RequestOrigin },
): Promise<RecoveryAnswer> {
  const { email, captcha, caller, request } = input;
  await requireHuman(app, { caller, answer: captcha, request });
  const owner = isValidEmail(email) ? await findEmailOwner(app.db, email) : undefined;
  const isOrganization = owner?.kind === "organization";
  later(app, async () => {
    if (isOrganization) await mailOrganization(app, { id: owner.id, username: owner.username, email });
    else if (owner) await mailUser(app, owner.id, email);
  });
  if (!isOrganization) return { status: "sent" };
  return { status: "org", orgemail: mask(email), orgname: mask(owner.username) };
}

/** Runs when the answer is on its way. A failure is the log's business. */
function later(app: Pick<App, "log">, work: () => Promise<void>): void {
  setTimeout(() => {
    work().catch((error: unknown) => app.log.warn("a recovery mail was not sent", errorFields(error)));
  }, 0);
}

async function mailUser(app: RecoveryApp, accountId: number, email: string): Promise<void> {
  const nowMs = app.clock.nowMs();
  const lifetimeMs = durationMs(app.config.USER_RECOVERY_TOKEN_LIFETIME);
  const found = await app.db.tx(async (tx) => {
    const account = await findAccountById(tx, accountId);
    if (!account?.enabled || account.email !== email) return undefined;
    if (await hasRecentCode(tx, accountId, "recovery", nowMs - PAUSE_MS)) return undefined;
    return { account, code: await issueCode(tx, { accountId, kind: "recovery", lifetimeMs, nowMs }) };
  });
  if (found) notifyRecovery(app, { to: email, username: found.account.username, code: found.code, lifetimeMs });
}

async function mailOrganization(
  app: RecoveryApp,
  organization: { id: number; username: string; email: string },
): Promise<void> {
  const admins = await listAdmins(app.db, organization.id);
  notifyOrganizationRecovery(app, { to: organization.email, organization: organization.username, admins });
}

async function listAdmins(db: Db, organizationId: number): Promise<string[]> {
  const rows = await db.sql<{ username: string }>`/* recovery.organization_admins */
    select distinct a.username
    from team t join team_member m on m.team_id = t.id join account a on a.id = m.account_id
    where t.organization_id = ${organizationId} and t.role = 'admin' and a.kind = 'user' and a.deleted_ms is null
    order by a.username limit ${ADMINS_MAX}`;
  return rows.map((row) => row.username);
}

/** A third of a text at each end at most, and at least one character hidden. */
export function mask(text: string): string {
  const shown = Math.max(1, Math.floor(text.length / 3) - 1);
  if (text.length <= 2) return "•".repeat(text.length);
  return text.slice(0, shown) + "•".repeat(text.length - 2 * shown) + text.slice(-shown);
}

/** Whose password a code would change; undefined when it is not good any more. */
export async function findRecovery(app: Pick<App, "db" | "clock">, code: string): Promise<Account | undefined> {
  const found = await findCode(app.db, "recovery", code, app.clock.nowMs());
  const account = found && (await findAccountById(app.db, found.accountId));
  return account?.kind === "user" && account.enabled ? account : undefined;
}

export interface PasswordRecovery {
  code: string;
  password: string;
  /** The session that the browser came with: it ends. */
  before: string | undefined;
  request: RequestOrigin;
}

/**
 * Uses a code: the account has the new password, its address counts as confirmed, every session of it ends and a new one
 * begins. Throws `not_found` for a code that is unknown, used or over, and `invalid_request` for a password that cannot be,
 * which leaves the code as it is.
 */
export async function recoverPassword(
  app: RecoveryApp,
  { code, password, before, request }: PasswordRecovery,
): Promise<{ token: string; username: string }> {
  // Asked before anything is hashed: whoever guesses codes costs no more than this query.
  if (!(await findRecovery(app, code))) throw new RegistryError("not_found");
  const passwordHash = await app.passwords.hash(parsePassword(password));
  const nowMs = app.clock.nowMs();
  const account = await app.db.tx(async (tx) => {
    const taken = await takeCode(tx, "recovery", code, nowMs);
    const account = taken && (await findAccountById(tx, taken.accountId));
    if (account?.kind !== "user" || !account.enabled) throw new RegistryError("not_found");
    await setPasswordHash(tx, account.id, passwordHash);
    await setVerified(tx, account.id);
    await endSessions(tx, account.id);
    await endCodes(tx, account.id, "recovery");
    const caller = callerFor(app.config, account);
    const entry = { kind: "account_change_password", caller, namespaceId: account.id, request, nowMs } as const;
    await logAction(tx, { ...entry, metadata: {} });
    return { ...account, passwordHash };
  });
  const { username, email } = account;
  if (email !== undefined) notifyPasswordChanged(app, { to: email, username });
  return { token: await beginSession(app, account, { before, request }), username };
}
