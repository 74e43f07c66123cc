/**
 * Checks a user's password, for command line clients and sign-in alike. Failed tries lock a user out for a growing time
 * as Quay does it, and an unknown name costs as much time as a wrong password.
 */

import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { unlessMoved } from "../../db/moved.ts";
import { databaseNowMs } from "../../db/now.ts";
import { RegistryError } from "../../errors.ts";
import { isMailing } from "../mail/mailing.ts";
import { type Account, findAccount, findUserByEmail } from "./account.ts";
import type { Failures } from "./failed-names.ts";

export type PasswordApp = Pick<App, "db" | "clock" | "passwords" | "logins">;

const NAME_CHARS_MAX = 511;
const SECRET_CHARS_MAX = 4096;

/** True for what cannot be a name and a secret of ours, so that nothing long is hashed or looked for. */
export function isOversized(name: string, secret: string): boolean {
  return name.length > NAME_CHARS_MAX || secret.length > SECRET_CHARS_MAX;
}

/**
 * The enabled user with this name or e-mail address and password. Throws `unauthorized` with Quay's texts, or
 * `too_many_logins` with Retry-After while locked out. Source: quay-behaviour reference, section 2.
 */
export async function checkPassword(app: PasswordApp, name: string, password: string): Promise<Account> {
  if (isOversized(name, password)) throw wrongPassword();
  return app.logins.checks.run(name, () => checkInTurn(app, name, password));
}

/** The same for one who already holds the name's turn (`LoginCache.checks`). */
export async function checkInTurn(app: PasswordApp, name: string, password: string): Promise<Account> {
  const account = await findByLogin(app, name);
  const hash = account?.kind === "user" ? account.passwordHash : undefined;
  if (!account || hash === undefined) return refuseStranger(app, name, password);
  // All instances count failures: a clock that is a minute ahead must not lock anybody out for that minute.
  if (account.failedLogins > 0) requireNotLockedOut(account, await databaseNowMs(app.db));
  if (!(await app.passwords.verify(password, hash))) {
    await countFailure(app, account.id, name);
    throw wrongPassword();
  }
  if (!account.enabled) throw accountDisabled();
  if (account.failedLogins > 0) {
    await unlessMoved(
      app.db.tx(async (tx) => {
        await tx.sql`/* login.reset */ update account set failed_logins = 0 where id = ${account.id}`;
      }),
    );
  }
  return account;
}

/**
 * Who nobody is, or has no password: the same answers after the same work as for a user, lock-out included, so that neither
 * text nor time tells who exists.
 */
async function refuseStranger(app: PasswordApp, name: string, password: string): Promise<never> {
  const before = app.logins.failedNames.find(name);
  if (before) {
    // Asked for the time it takes, as with a user's.
    await databaseNowMs(app.db);
    requireNotLockedOut(before, app.clock.nowMs());
  }
  await app.passwords.verifyNothing(password);
  await countFailure(app, NOBODY_ID, name);
  throw wrongPassword();
}

/** No account has this id: the statement runs and changes nothing. */
const NOBODY_ID = 0;

async function countFailure(app: PasswordApp, accountId: number, name: string): Promise<void> {
  await unlessMoved(
    app.db.tx(
      async (tx) => {
        tx.changed(app.logins.failedNames.keyOf(name));
        await tx.sql`/* login.failed */
          update account set failed_logins = failed_logins + 1, last_failed_login_ms = ${tx.dialect.nowMs}
          where id = ${accountId}`;
      },
      // A counter that a power cut sets back by one does no harm; waiting for the disk would tell users from strangers.
      { durable: false },
    ),
  );
}

/** True for a user who has yet to confirm the address of the account, where mails to do so can be sent. */
export function needsVerification(config: Config, account: Pick<Account, "verified">): boolean {
  return !account.verified && isMailing(config);
}

/** What command line clients are told then. */
export function unverified(): RegistryError {
  return new RegistryError("unauthorized", {
    message: "The e-mail address of this user has not been confirmed yet. Please open the link in the mail we sent.",
  });
}

/** By user name or e-mail address. Nobody has a name with control characters, and PostgreSQL refuses to look for NUL. */
async function findByLogin(app: PasswordApp, name: string): Promise<Account | undefined> {
  if (/\p{Cc}/u.test(name)) return undefined;
  return (await findAccount(app.db, name)) ?? (name.includes("@") ? findUserByEmail(app.db, name) : undefined);
}

/** Failures after which the wait would not grow any more worth telling: 2^20 half seconds are six days. */
const LOCKOUT_EXPONENT_MAX = 20;

/** Next try at last failure + 0.5·(2^n − 1) s. Source: quay-behaviour reference, section 2. */
function requireNotLockedOut(failures: Failures, nowMs: number): void {
  if (failures.failedLogins === 0 || failures.lastFailedLoginMs === undefined) return;
  const exponent = Math.min(failures.failedLogins, LOCKOUT_EXPONENT_MAX);
  const waitMs = failures.lastFailedLoginMs + 500 * (2 ** exponent - 1) - nowMs;
  if (waitMs <= 0) return;
  throw new RegistryError("too_many_logins", {
    message: "Too many login attempts. \nPlease reset your Quay password and try again.",
    headers: { "Retry-After": String(Math.ceil(waitMs / 1000)) },
  });
}

export function wrongPassword(): RegistryError {
  return new RegistryError("unauthorized", { message: "Invalid Username or Password" });
}

export function accountDisabled(): RegistryError {
  return new RegistryError("unauthorized", {
    message: "This user has been disabled. Please contact your administrator.",
  });
}
