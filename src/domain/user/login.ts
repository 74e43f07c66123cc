/**
 * Checks a name and a secret and says who it is: users by password, robots by token. Failed log-ins lock a user out for a
 * growing time as Quay does it. Who the account is allowed to be comes from `account.ts`, what it may do from access.
 */

import { timingSafeEqual } from "node:crypto";
import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { Lru } from "../../lib/lru.ts";
import { KeyedMutex } from "../../lib/semaphore.ts";
import { findRobotName, isRobotLike } from "../../oci/names.ts";
import type { Principal } from "../access/actor.ts";
import { type Account, accountKey, findAccount, findUserByEmail, toPrincipal } from "./account.ts";

type LoginApp = Pick<App, "config" | "db" | "lookup" | "clock" | "passwords" | "logins" | "secrets" | "metrics">;

/** A password that was found right, remembered so that Basic auth on every request does not hash every time. */
interface KnownLogin {
  readonly accountId: number;
  /** The stored secret it matched: another one since then makes the memory worthless. */
  readonly against: string;
}

const KNOWN_MAX = 10_000;
const NAME_CHARS_MAX = 511;
const SECRET_CHARS_MAX = 4096;

/** Log-ins found right in this process, by a keyed hash of name and secret, and the queue of checks of each name. */
export class LoginCache {
  readonly #known = new Lru<string, KnownLogin>(KNOWN_MAX);
  readonly #key = crypto.getRandomValues(new Uint8Array(32));
  /** One check at a time for a name: a thousand guesses sent at once are counted one by one. */
  readonly checks = new KeyedMutex();

  key(username: string, secret: string): string {
    return new Bun.CryptoHasher("sha256", this.#key).update(`${username.length}:${username}${secret}`).digest("base64");
  }
  get(key: string): KnownLogin | undefined {
    return this.#known.get(key);
  }
  set(key: string, login: KnownLogin): void {
    this.#known.set(key, login);
  }
  delete(key: string): void {
    this.#known.delete(key);
  }
}

/**
 * Who this is. Throws `unauthorized` with Quay's texts, or `too_many_logins` with Retry-After while locked out. Source:
 * quay-behaviour reference, section 2.
 */
export async function login(app: LoginApp, username: string, secret: string): Promise<Principal> {
  try {
    const principal = await checkLogin(app, username, secret);
    app.metrics.authAttempts.inc({ auth_kind: "basic", success: "True" });
    return principal;
  } catch (error) {
    app.metrics.authAttempts.inc({ auth_kind: "basic", success: "False" });
    throw error;
  }
}

async function checkLogin(app: LoginApp, username: string, secret: string): Promise<Principal> {
  if (username.length > NAME_CHARS_MAX || secret.length > SECRET_CHARS_MAX) throw wrong();
  const key = app.logins.key(username, secret);
  const known = await findKnown(app, key);
  if (known) return known;
  return app.logins.checks.run(username, async () => {
    // The one before us in the queue may have found it right.
    const meanwhile = await findKnown(app, key);
    if (meanwhile) return meanwhile;
    const account = isRobotLike(username)
      ? await checkRobot(app, username, secret)
      : await checkUser(app, username, secret);
    const principal = toPrincipal(app.config, account);
    if (!principal) throw disabled();
    app.logins.set(key, { accountId: account.id, against: account.tokenEncrypted ?? account.passwordHash ?? "" });
    await touch(app, account);
    return principal;
  });
}

async function findKnown(app: LoginApp, key: string): Promise<Principal | undefined> {
  const known = app.logins.get(key);
  if (!known) return undefined;
  const account = await app.lookup.account(known.accountId);
  if (account && (account.tokenEncrypted ?? account.passwordHash) === known.against) {
    const principal = toPrincipal(app.config, account);
    if (principal) return principal;
  }
  app.logins.delete(key);
  return undefined;
}

async function checkUser(app: LoginApp, name: string, password: string): Promise<Account> {
  const account = await findByLogin(app, name);
  if (account?.kind !== "user" || account.passwordHash === undefined) {
    await app.passwords.verifyNothing(password);
    throw wrong();
  }
  requireNotLockedOut(account, app.clock.nowMs());
  if (!(await app.passwords.verify(password, account.passwordHash))) {
    await app.db.tx(async (tx) => {
      await tx.sql`/* login.failed */
        update account set failed_logins = failed_logins + 1, last_failed_login_ms = ${app.clock.nowMs()}
        where id = ${account.id}`;
    });
    throw wrong();
  }
  if (!account.enabled) throw disabled();
  if (account.failedLogins > 0) {
    await app.db.tx(async (tx) => {
      await tx.sql`/* login.reset */ update account set failed_logins = 0 where id = ${account.id}`;
    });
  }
  return account;
}

/** By user name or e-mail address. Nobody has a name with control characters, and PostgreSQL refuses to look for NUL. */
async function findByLogin(app: LoginApp, name: string): Promise<Account | undefined> {
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

async function checkRobot(app: LoginApp, name: string, token: string): Promise<Account> {
  const message = `Could not find robot with username: ${name} and supplied password.`;
  const unknown = () => new RegistryError("unauthorized", { message });
  if (!findRobotName(name)) {
    throw new RegistryError("unauthorized", { message: `${name} is an invalid robot name` });
  }
  if (app.config.ROBOTS_DISALLOW && !app.config.ROBOTS_WHITELIST.includes(name)) throw unknown();
  const account = await findAccount(app.db, name);
  if (account?.kind !== "robot" || account.tokenEncrypted === undefined) throw unknown();
  if (!sameSecret(app.secrets.open(account.tokenEncrypted), token)) throw unknown();
  if (!account.enabled) throw disabled();
  return account;
}

function sameSecret(a: string, b: string): boolean {
  const left = new Bun.CryptoHasher("sha256").update(a).digest();
  const right = new Bun.CryptoHasher("sha256").update(b).digest();
  return timingSafeEqual(left, right);
}

/** FEATURE_USER_LAST_ACCESSED: at most one write per account and LAST_ACCESSED_UPDATE_THRESHOLD_S. */
async function touch(app: LoginApp, account: Account): Promise<void> {
  if (!app.config.FEATURE_USER_LAST_ACCESSED) return;
  const nowMs = app.clock.nowMs();
  const thresholdMs = app.config.LAST_ACCESSED_UPDATE_THRESHOLD_S * 1000;
  if (account.lastAccessedMs !== undefined && nowMs - account.lastAccessedMs < thresholdMs) return;
  await app.db.tx(async (tx) => {
    await tx.sql`/* login.touch */ update account set last_accessed_ms = ${nowMs} where id = ${account.id}`;
    tx.changed(accountKey(account.id));
  });
}

function wrong(): RegistryError {
  return new RegistryError("unauthorized", { message: "Invalid Username or Password" });
}

function disabled(): RegistryError {
  return new RegistryError("unauthorized", {
    message: "This user has been disabled. Please contact your administrator.",
  });
}
