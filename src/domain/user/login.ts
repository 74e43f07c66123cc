/**
 * Log-ins of command line clients, by name and secret: users by password or client key, robots by token, and under names
 * of their own app-specific tokens (`$app`) and OAuth tokens (`$oauthtoken`). Browser sign-in is `check-password.ts` and
 * a session; what the account may do comes from access.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { Lru } from "../../lib/lru.ts";
import { isSameSecret } from "../../lib/same-secret.ts";
import { KeyedMutex } from "../../lib/semaphore.ts";
import { findRobotName, isRobotLike } from "../../oci/names.ts";
import { APP_TOKEN_USERNAME, checkAppToken } from "../app-token/check.ts";
import { openClientKey } from "../client-key/client-key.ts";
import { LastAccess, touchLater } from "../credential/last-access.ts";
import { type KnownLogin, type Login, resumeLogin, storedSecret } from "../credential/log-in.ts";
import { checkOauthToken, OAUTH_USERNAME } from "../oauth/bearer.ts";
import { checkFederatedToken, isFederatedToken } from "../robot/federated-token.ts";
import { findAccount, toPrincipal } from "./account.ts";
import {
  accountDisabled,
  checkInTurn,
  isOversized,
  needsVerification,
  unverified,
  wrongPassword,
} from "./check-password.ts";
import { FailedNames, type FailedNamesOptions } from "./failed-names.ts";

type LoginApp = Pick<
  App,
  | "config"
  | "db"
  | "lookup"
  | "clock"
  | "passwords"
  | "logins"
  | "secrets"
  | "secretKey"
  | "tokenKeys"
  | "metrics"
  | "log"
>;

/** Quay's old repository tokens, which no longer exist anywhere. */
const LEGACY_TOKEN_USERNAME = "$token";
const KNOWN_MAX = 10_000;

/** Log-ins found right in this process, by a keyed hash of name and secret, and the queue of checks of each name. */
export class LoginCache {
  readonly #known = new Lru<string, KnownLogin>(KNOWN_MAX);
  readonly #key = crypto.getRandomValues(new Uint8Array(32));
  /** One check at a time for a name: a thousand guesses sent at once are counted one by one. */
  readonly checks = new KeyedMutex();
  readonly lastAccess = new LastAccess();
  readonly failedNames: FailedNames;

  constructor(options: FailedNamesOptions) {
    this.failedNames = new FailedNames(options);
  }

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
 * Who this is and with what authority. Throws `unauthorized` with Quay's texts, `token_expired` for an OAuth token whose
 * time is over, or `too_many_logins` with Retry-After while locked out. Source: quay-behaviour reference, section 2.
 */
export async function login(app: LoginApp, username: string, secret: string): Promise<Login> {
  const kind = AUTH_KINDS.get(username) ?? "basic";
  try {
    const found = await checkLogin(app, username, secret);
    app.metrics.authAttempts.inc({ auth_kind: kind, success: "True" });
    return found;
  } catch (error) {
    app.metrics.authAttempts.inc({ auth_kind: kind, success: "False" });
    throw error;
  }
}

const AUTH_KINDS: ReadonlyMap<string, string> = new Map([
  [OAUTH_USERNAME, "oauth"],
  [APP_TOKEN_USERNAME, "app_specific_token"],
]);

async function checkLogin(app: LoginApp, username: string, secret: string): Promise<Login> {
  if (isOversized(username, secret)) throw wrongPassword();
  if (username === OAUTH_USERNAME) return checkOauthToken(app, secret);
  if (username === APP_TOKEN_USERNAME) return checkAppToken(app, secret);
  if (username === LEGACY_TOKEN_USERNAME) throw new RegistryError("unauthorized", { message: "Invalid access token" });
  const key = app.logins.key(username, secret);
  const login =
    (await findKnown(app, username, key)) ??
    (await app.logins.checks.run(username, async () => {
      // The one before us in the queue may have found it right.
      const meanwhile = await findKnown(app, username, key);
      if (meanwhile) return meanwhile;
      const check = isRobotLike(username) ? checkRobot : checkUser;
      const { login, known } = await check(app, username, secret);
      app.logins.set(key, known);
      return login;
    }));
  touchLater(app, { table: "account", id: login.principal.accountId });
  return login;
}

async function findKnown(app: LoginApp, name: string, key: string): Promise<Login | undefined> {
  const known = app.logins.get(key);
  if (!known) return undefined;
  const login = (await isStillSigned(app, known)) ? await resumeLogin(app, known) : undefined;
  // The account may have another name by now, and somebody else may take this one.
  if (login && (await isNamed(app, known.accountId, name))) return login;
  app.logins.delete(key);
  return undefined;
}

/** The key that signed it may have been taken away, which ends it as it ends registry tokens. */
async function isStillSigned({ tokenKeys }: LoginApp, { keyGeneration }: KnownLogin): Promise<boolean> {
  if (keyGeneration === undefined) return true;
  await tokenKeys.confirm();
  return keyGeneration === tokenKeys.generation;
}

async function isNamed(app: LoginApp, accountId: number, name: string): Promise<boolean> {
  const account = await app.lookup.account(accountId);
  return account !== undefined && (account.username === name || account.email === name);
}

interface Checked {
  readonly login: Login;
  readonly known: KnownLogin;
}

async function checkUser(app: LoginApp, name: string, secret: string): Promise<Checked> {
  if (app.config.AUTHENTICATION_TYPE === "AppToken") {
    throw new RegistryError("unauthorized", { message: "An application specific token is required to login" });
  }
  const decrypted = openClientKey(app, secret);
  // Said of every name alike and before the password is looked at, so that it tells nothing.
  if (decrypted === undefined && app.config.FEATURE_REQUIRE_ENCRYPTED_BASIC_AUTH) {
    const message =
      "Client login with unencrypted passwords is disabled. Please generate an encrypted password in the user admin " +
      "panel for use here.";
    throw new RegistryError("unauthorized", { message });
  }
  const account = await checkInTurn(app, name, decrypted ?? secret);
  if (needsVerification(app.config, account)) throw unverified();
  const principal = toPrincipal(app.config, account);
  if (!principal) throw accountDisabled();
  const credential = { kind: "password" } as const;
  return {
    login: { principal, credential, scopes: undefined, expiresMs: undefined, against: storedSecret(account) },
    known: { accountId: account.id, credential, against: storedSecret(account) },
  };
}

async function checkRobot(app: LoginApp, name: string, token: string): Promise<Checked> {
  const message = `Could not find robot with username: ${name} and supplied password.`;
  const unknown = () => new RegistryError("unauthorized", { message });
  if (!findRobotName(name)) {
    throw new RegistryError("unauthorized", { message: `${name} is an invalid robot name` });
  }
  if (app.config.ROBOTS_DISALLOW && !app.config.ROBOTS_WHITELIST.includes(name)) throw unknown();
  const account = await findAccount(app.db, name);
  if (account?.kind !== "robot") throw unknown();
  const keyGeneration = app.tokenKeys.generation;
  const federated = isFederatedToken(token) ? await checkFederatedToken(app, account.id, token) : undefined;
  const isOwnToken =
    account.tokenEncrypted !== undefined && isSameSecret(app.secrets.open(account.tokenEncrypted), token);
  if (!federated && !isOwnToken) throw unknown();
  const principal = toPrincipal(app.config, account);
  if (!principal) throw accountDisabled();
  const credential = federated?.credential ?? ({ kind: "robot" } as const);
  const against = federated ? undefined : storedSecret(account);
  return {
    login: { principal, credential, scopes: undefined, expiresMs: federated?.expiresMs, against },
    known: {
      accountId: account.id,
      credential,
      against,
      untilMs: federated?.expiresMs,
      ...(federated ? { keyGeneration } : {}),
    },
  };
}
