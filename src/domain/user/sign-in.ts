/**
 * Signing in to the page and its API, and out again: a password becomes a session. What command line clients do is
 * `login.ts`; what the cookie looks like is http/auth/session.ts.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toBoolean } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Principal } from "../access/actor.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { noteFailedLogin, noteLogin, noteLogout } from "../audit/logins.ts";
import { touchLater } from "../credential/last-access.ts";
import { endSession, endSessions, refreshSession, type Session, startSession } from "../session/session.ts";
import { resendConfirmation } from "../sign-up/confirmation.ts";
import { confirmByInvite } from "../sign-up/invited.ts";
import { type Account, toPrincipal } from "./account.ts";
import { accountDisabled, checkPassword, needsVerification } from "./check-password.ts";

type SignInApp = Pick<App, "config" | "db" | "clock" | "passwords" | "logins" | "audit" | "mailer" | "log">;

export interface SignIn {
  /** User name or e-mail address. */
  login: string;
  password: string;
  /** Of a team invitation: the address it went to need not be confirmed again. */
  inviteCode?: string | undefined;
  /** The session that the browser came with: it ends, so that nobody keeps a cookie that another one planted. */
  before: string | undefined;
  request: RequestOrigin;
}

/** Why nobody was signed in, in the fields of Quay's answer. */
export interface SignInRefusal {
  readonly token: undefined;
  readonly needsEmailVerification: boolean;
  readonly invalidCredentials: boolean;
  readonly message: string | undefined;
}

export interface SignedIn {
  /** The new session's cookie. */
  readonly token: string;
  readonly account: Account;
}

/**
 * Checks name and password and begins a session. Refusals are told as Quay tells them; throws `too_many_logins` with
 * Retry-After while locked out. Source: quay-api reference, section 2, and quay-behaviour, section 2.
 */
export async function signIn(app: SignInApp, input: SignIn): Promise<SignedIn | SignInRefusal> {
  const { login, request } = input;
  let account: Account;
  try {
    account = await checkPassword(app, login, input.password);
  } catch (error) {
    noteFailedLogin(app, { type: "quayauth", username: login, error, request });
    if (!(error instanceof RegistryError) || error.code !== "unauthorized") throw error;
    return { token: undefined, needsEmailVerification: false, invalidCredentials: true, message: error.message };
  }
  if (needsVerification(app.config, account) && !(await confirmByInvite(app, account, input.inviteCode))) {
    await resendConfirmation(app, account);
    const message = "Please confirm your e-mail address first: open the link in the mail we sent.";
    return { token: undefined, needsEmailVerification: true, invalidCredentials: false, message };
  }
  return { token: await beginSession(app, account, input), account };
}

/**
 * Begins a session for a user who has just shown who it is, and ends the one the browser had before. Throws `unauthorized`
 * when the account was disabled or got another password meanwhile.
 */
export async function beginSession(
  app: Pick<App, "config" | "db" | "clock" | "audit" | "logins" | "log">,
  account: Account,
  { before, request }: { before: string | undefined; request: RequestOrigin },
): Promise<string> {
  const nowMs = app.clock.nowMs();
  const token = await app.db.tx(async (tx) => {
    await requireUnchanged(tx, account);
    if (before !== undefined) await endSession(tx, before);
    return startSession(app, tx, { accountId: account.id, request, nowMs });
  });
  const principal = toPrincipal(app.config, account);
  if (principal) noteLogin(app, { type: "quayauth", principal, credential: { kind: "password" }, request });
  touchLater(app, { table: "account", id: account.id });
  return token;
}

/**
 * Throws `unauthorized` unless the account is still the enabled user whose password was checked. Until the transaction is
 * over nobody can change that, so that a session cannot slip in behind a change that ends all sessions.
 */
export async function requireUnchanged(tx: Tx, account: Account): Promise<void> {
  const [row] = await tx.sql<{ password_hash: string | null; enabled: unknown }>`/* sign_in.lock */
    select password_hash, enabled from account
    where id = ${account.id} and kind = 'user' and deleted_ms is null ${tx.dialect.forUpdate}`;
  const isSame = row !== undefined && (row.password_hash ?? undefined) === account.passwordHash;
  if (!isSame || !toBoolean(row.enabled)) throw accountDisabled();
}

/**
 * Checks the caller's own password again and notes it in the session: what asks for a fresh log-in is open for a while.
 * False when it is wrong; throws `too_many_logins` while locked out.
 */
export async function verifyPassword(
  app: SignInApp,
  principal: Principal,
  session: Session | undefined,
  password: string,
): Promise<boolean> {
  if (!(await isOwnPassword(app, principal, password))) return false;
  if (session) await app.db.tx((tx) => refreshSession(tx, session, app.clock.nowMs()));
  return true;
}

/** Whether this is the password of the caller's own account. Throws `too_many_logins` while locked out. */
export async function isOwnPassword(
  app: Pick<App, "db" | "clock" | "passwords" | "logins">,
  principal: Principal,
  password: string,
): Promise<boolean> {
  try {
    return (await checkPassword(app, principal.username, password)).id === principal.accountId;
  } catch (error) {
    if (error instanceof RegistryError && error.code === "unauthorized") return false;
    throw error;
  }
}

/** Ends every session of the user, on every instance. Source: quay-behaviour reference, section 2. */
export async function signOut(
  app: Pick<App, "config" | "db" | "audit">,
  principal: Principal,
  request: RequestOrigin,
): Promise<void> {
  await app.db.tx((tx) => endSessions(tx, principal.accountId));
  noteLogout(app, { principal, request });
}
