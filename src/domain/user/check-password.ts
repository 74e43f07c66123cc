/**
 * Checks a user's password, for command line clients and sign-in alike. Failed tries lock a user out for a growing time
 * as Quay does it, and an unknown name costs as much time as a wrong password.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { type Account, findAccount, findUserByEmail } from "./account.ts";

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
  if (account?.kind !== "user" || account.passwordHash === undefined) {
    await app.passwords.verifyNothing(password);
    throw wrongPassword();
  }
  requireNotLockedOut(account, app.clock.nowMs());
  if (!(await app.passwords.verify(password, account.passwordHash))) {
    await app.db.tx(async (tx) => {
      await tx.sql`/* login.failed */
        update account set failed_logins = failed_logins + 1, last_failed_login_ms = ${app.clock.nowMs()}
        where id = ${account.id}`;
    });
    throw wrongPassword();
  }
  if (!account.enabled) throw accountDisabled();
  if (account.failedLogins > 0) {
    await app.db.tx(async (tx) => {
      await tx.sql`/* login.reset */ update account set failed_logins = 0 where id = ${account.id}`;
    });
  }
  return account;
}

/** By user name or e-mail address. Nobody has a name with control characters, and PostgreSQL refuses to look for NUL. */
async function findByLogin(app: PasswordApp, name: string): Promise<Account | undefined> {
  if (/\p{Cc}/u.test(name)) return undefined;
  return (await findAccount(app.db, name)) ?? (name.includes("@") ? findUserByEmail(app.db, name) : undefined);
}

/** Failures after which the wait would not grow any more worth telling: 2^20 half seconds are six days. */
const LOCKOUT_EXPONENT_MAX = 20;

/** Next try at last failure + 0.5·(2^n − 1) s. Source: quay-behaviour reference, section 2. */
function requireNotLockedOut(account: Account, nowMs: number): void {
  if (account.failedLogins === 0 || account.lastFailedLoginMs === undefined) return;
  const exponent = Math.min(account.failedLogins, LOCKOUT_EXPONENT_MAX);
  const waitMs = account.lastFailedLoginMs + 500 * (2 ** exponent - 1) - nowMs;
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
