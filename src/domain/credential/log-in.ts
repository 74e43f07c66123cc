/**
 * What a successful log-in is, and how one that was checked before is taken up again without its secret being checked:
 * by the account's stored secret for passwords and robot tokens, by the credential's id for those that can be revoked.
 */

import type { App } from "../../app.ts";
import type { Credential, OauthScope, Principal } from "../access/actor.ts";
import type { Account } from "../user/account.ts";
import { credentialId } from "./credential.ts";

/** Who somebody proved to be, with what, and how much of the account's rights came with it. */
export interface Login {
  readonly principal: Principal;
  readonly credential: Credential;
  /** What an OAuth token allows at most; undefined: no such cap. */
  readonly scopes: ReadonlySet<OauthScope> | undefined;
  /** When the credential ends, epoch ms; undefined: never by itself. */
  readonly expiresMs: number | undefined;
  /** The account's stored secret that it matched; undefined where the credential has an id of its own. */
  readonly against?: string | undefined;
}

/** A log-in that was found right, remembered so that the same one on every request does not cost a hash every time. */
export interface KnownLogin {
  readonly accountId: number;
  readonly credential: Credential;
  /** The stored secret it matched; another one since then makes the memory worthless. Undefined where an id is asked. */
  readonly against: string | undefined;
  /** When the log-in is over whatever its credential says, epoch ms. */
  readonly untilMs?: number | undefined;
  /** `TokenKeys.generation` under which its signature was checked, where it has one. */
  readonly keyGeneration?: number | undefined;
}

type CredentialApp = Pick<App, "config" | "lookup" | "clock">;

/** The log-in as it is worth now, undefined when it has to be checked again. */
export async function resumeLogin(app: CredentialApp, known: KnownLogin): Promise<Login | undefined> {
  if (known.untilMs !== undefined && known.untilMs <= app.clock.nowMs()) return undefined;
  const id = credentialId(known.accountId, known.credential);
  if (id !== undefined) {
    const login = await loginOf(app, id);
    return login && { ...login, expiresMs: known.untilMs ?? login.expiresMs };
  }
  const account = await app.lookup.account(known.accountId);
  if (!account || storedSecret(account) !== known.against) return undefined;
  const principal = await app.lookup.principal(known.accountId);
  const { credential, against } = known;
  return principal && { principal, credential, scopes: undefined, expiresMs: undefined, against };
}

/**
 * What a robot's token or a user's password is compared with; it changes when they do. It is another one, too, once the
 * account was deleted and restored: what was given out before then stays ended.
 */
export function storedSecret(account: Account): string | undefined {
  const secret = account.tokenEncrypted ?? account.passwordHash;
  return secret === undefined || account.restoredMs === undefined ? secret : `${account.restoredMs}:${secret}`;
}

/** The log-in by a revocable credential as it stands now, undefined when it is gone, over, or its account is. */
export async function loginOf(app: CredentialApp, id: string): Promise<Login | undefined> {
  const facts = await app.lookup.credential(id);
  if (!facts) return undefined;
  if (facts.expiresMs !== undefined && facts.expiresMs <= app.clock.nowMs()) return undefined;
  if (facts.credential.kind === "app-token" && !app.config.FEATURE_APP_SPECIFIC_TOKENS) return undefined;
  const principal = await app.lookup.principal(facts.accountId);
  if (!principal) return undefined;
  const { credential, scopes, expiresMs } = facts;
  return { principal: cappedPrincipal(principal, scopes), credential, scopes, expiresMs };
}

/** The account without the powers that its scopes leave out: superuser rights need a scope of their own. */
export function cappedPrincipal(principal: Principal, scopes: ReadonlySet<OauthScope> | undefined): Principal {
  if (!principal.superuser || scopes === undefined || scopes.has("super:user")) return principal;
  return { ...principal, superuser: false, withoutSuperuser: true };
}
