/**
 * Registry tokens: what `/v2/auth` gives out and what a bearer token on /v2 is worth. A token names the most its holder
 * may do; what the account may do at the moment is decided again on every request.
 */

import { errors, jwtVerify, SignJWT } from "jose";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { RegistryError } from "../../errors.ts";
import { Lru } from "../../lib/lru.ts";
import type { RepositoryPath } from "../../oci/names.ts";
import { decide, decideCreate } from "../access/access.ts";
import {
  ANONYMOUS,
  type Caller,
  hasScope,
  REGISTRY_ACTIONS,
  type RegistryAction,
  scopesCoverRole,
} from "../access/actor.ts";
import { findNamespaceFacts } from "../access/facts.ts";
import { namespaceDisabled } from "../access/refusal.ts";
import { credentialId } from "../credential/credential.ts";
import { type Login, loginOf, storedSecret } from "../credential/log-in.ts";
import type { Settled } from "../lookup/lookup.ts";
import { mayCreateOrganizations } from "../organization/create-organization.ts";
import type { Account } from "../user/account.ts";
import { TOKEN_ALGORITHM } from "./keys.ts";
import type { RequestedScope } from "./scope.ts";

type TokenApp = Pick<App, "config" | "db" | "lookup" | "clock" | "tokenKeys" | "metrics" | "secretKey">;
type Grants = ReadonlyMap<RepositoryPath, ReadonlySet<RegistryAction | "*">>;

/** Source: quay-api reference, section 18: one hour, 30 s of leeway for clocks. */
const LIFE_SECONDS = 3600;
const LEEWAY_SECONDS = 30;
/** An expired token may finish an upload session it began, but no session lives longer than this. */
const EXPIRED_MAX_SECONDS = 7 * 24 * 3600;
const TOKEN_CHARS_MAX = 16 * 1024;
const ANONYMOUS_SUBJECT = "(anonymous)";

export interface IssuedToken {
  readonly token: string;
  readonly expiresInSeconds: number;
  readonly issuedMs: number;
}

/**
 * A token for these scopes; what is not allowed is left out of it without a word. It names the credential it was given
 * for, or carries a mark of the password or robot token, and does not outlive them. Throws `namespace_disabled` to those who could pull otherwise.
 */
export async function issueToken(
  app: TokenApp,
  login: Login | undefined,
  audience: string,
  scopes: readonly RequestedScope[],
): Promise<IssuedToken> {
  const caller: Caller = login
    ? { ...login, grants: undefined, expired: false, authKind: "basic" }
    : { ...ANONYMOUS, authKind: "basic" };
  const access: { type: "repository"; name: string; actions: string[] }[] = [];
  for (const scope of scopes) {
    access.push({ type: "repository", name: scope.name, actions: await allowedActions(app, caller, scope) });
  }
  const issuedMs = app.clock.nowMs();
  const issuedSeconds = Math.floor(issuedMs / 1000);
  const endsSeconds = Math.floor((login?.expiresMs ?? Number.POSITIVE_INFINITY) / 1000);
  const lifeSeconds = Math.max(1, Math.min(LIFE_SECONDS, endsSeconds - issuedSeconds));
  const { kid, privateKey } = await app.tokenKeys.signingKey();
  const subject = login?.principal.username ?? ANONYMOUS_SUBJECT;
  const credential = login && credentialId(login.principal.accountId, login.credential);
  const claims = {
    access,
    context: context(login),
    account_id: login?.principal.accountId ?? null,
    ...(credential === undefined ? {} : { credential }),
    ...(login?.against === undefined ? {} : { secret: secretMark(app, login.against) }),
  };
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: TOKEN_ALGORITHM, typ: "JWT", kid })
    .setIssuer(app.tokenKeys.issuer)
    .setAudience(audience)
    .setSubject(subject)
    .setNotBefore(issuedSeconds)
    .setIssuedAt(issuedSeconds)
    .setExpirationTime(issuedSeconds + lifeSeconds)
    .setJti(crypto.randomUUID())
    .sign(privateKey);
  return { token, expiresInSeconds: lifeSeconds, issuedMs };
}

async function allowedActions(app: TokenApp, caller: Caller, scope: RequestedScope): Promise<string[]> {
  const { principal } = caller;
  const asked = scope.actions.has("*") ? REGISTRY_ACTIONS : REGISTRY_ACTIONS.filter((a) => scope.actions.has(a));
  const repository = await app.lookup.repository(scope.parsed.path);
  if (!repository) {
    const namespace = await findNamespaceFacts(app.db, scope.parsed.namespace, principal);
    const isOpen = app.config.CREATE_NAMESPACE_ON_PUSH && mayCreateOrganizations(app.config, principal);
    const mayOpen = isOpen && hasScope(caller, "org:admin");
    const vacant = namespace === undefined && mayOpen && hasScope(caller, "repo:create");
    const decision = decideCreate(app.config, caller, namespace);
    const mayCreate = decision.allowed || vacant;
    // Pull goes with it: clients look for blobs before they push the first one. Alone it is for those who may be told that
    // nothing is there, but not create it now.
    const mayPush = mayCreate && scopesCoverRole(caller, "write");
    if (mayPush) return asked.filter((action) => action !== "delete");
    return decision.mayKnow && scopesCoverRole(caller, "read") ? asked.filter((action) => action === "pull") : [];
  }
  const role = await app.lookup.role(principal, repository);
  const decideOn = (action: RegistryAction | "admin") => decide(app.config, caller, repository, role, action);
  const pull = decideOn("pull");
  if (pull.rule === "namespace-disabled" && pull.mayKnow) throw namespaceDisabled(repository.namespace);
  const allows = (action: RegistryAction | "admin") => decideOn(action).allowed;
  const actions: string[] = asked.filter(allows);
  if (scope.actions.has("*") && allows("admin") && repository.state === "NORMAL") actions.push("*");
  return actions;
}

/** Tells whether a stored secret is still the same, and nothing else of it. */
function secretMark(app: Pick<App, "secretKey">, against: string): string {
  return new Bun.CryptoHasher("sha256", app.secretKey).update(`secret:${against}`).digest("base64url").slice(0, 22);
}

/** Quay's context claim, for tools that read it. */
function context(login: Login | undefined): Record<string, unknown> {
  const { kind, reference } = entity(login);
  return {
    version: 2,
    kind,
    entity_kind: kind,
    ...(login ? { user: login.principal.username, entity_reference: reference } : {}),
    "com.apostille.root": "$disabled",
  };
}

function entity(login: Login | undefined): { kind: string; reference?: string } {
  if (!login) return { kind: "anonymous" };
  const { credential, principal } = login;
  if (credential.kind === "app-token") return { kind: "appspecifictoken", reference: credential.uuid };
  if (credential.kind === "oauth") return { kind: "oauthtoken", reference: credential.uuid };
  return { kind: principal.kind, reference: principal.username };
}

interface VerifiedToken {
  readonly accountId: number | undefined;
  /** Of the credential it was given for; undefined where the account alone says whether it is still good. */
  readonly credentialId: string | undefined;
  /** Mark of the stored secret it was given for; undefined where there is none. */
  readonly secret: string | undefined;
  readonly grants: Grants;
  readonly expiresMs: number;
  /** The caller it made last, as long as nothing changes and neither token nor credential is over. */
  caller: Settled<Caller> | undefined;
}

/** Tokens that verified, by their hash, until they expire; so a client's hundred requests cost one signature check. */
const VERIFIED_MAX = 20_000;
/** Kept whole, about a kilobyte each. */
const BUSY_MAX = 1_000;

export class TokenVerifier {
  readonly #verified = new Lru<string, VerifiedToken>(VERIFIED_MAX);
  /** The busiest of them by the token itself: hashing a token costs as much as all other look-ups of a pull. */
  readonly #busy = new Lru<string, VerifiedToken>(BUSY_MAX);
  /** Marks of accounts as they are cached: a row that changed is another object. */
  readonly #marks = new WeakMap<Account, string>();
  #generation = 0;

  /**
   * The caller behind a bearer token. An expired one gives a caller with `expired` set. Throws `unauthorized` for tokens
   * that are not ours, not for us, or whose account or credential is gone or disabled.
   */
  async callerOf(app: TokenApp, token: string, audience: string): Promise<Caller> {
    if (token.length > TOKEN_CHARS_MAX) throw refused(app, "the token is too long");
    if (!app.db.hearsChanges) await app.tokenKeys.confirm();
    const nowMs = app.clock.nowMs();
    const { generation } = app.tokenKeys;
    if (generation !== this.#generation) {
      this.#verified.clear();
      this.#busy.clear();
      this.#generation = generation;
    }
    const verified = this.#busy.get(token) ?? (await this.#verify(app, token, audience, generation));
    const held = app.lookup.unchanged(verified.caller, nowMs);
    if (held) return held;
    const { version } = app.lookup;
    const { caller, untilMs } = await this.#resolve(app, verified, nowMs);
    const settled = app.lookup.settle(caller, version, nowMs);
    verified.caller = { ...settled, untilMs: Math.min(settled.untilMs, untilMs) };
    return caller;
  }

  async #verify(app: TokenApp, token: string, audience: string, generation: number): Promise<VerifiedToken> {
    const key = Bun.SHA256.hash(token, "base64");
    const known = this.#verified.get(key);
    const verified = known ?? (await verify(app, token, audience));
    // The key may have been taken away meanwhile.
    if (generation === app.tokenKeys.generation) {
      if (!known) this.#verified.set(key, verified);
      this.#busy.set(token, verified);
    }
    return verified;
  }

  /** The caller as its account and credential stand now, and when that may end by itself (epoch ms). */
  async #resolve(app: TokenApp, verified: VerifiedToken, nowMs: number): Promise<{ caller: Caller; untilMs: number }> {
    const { grants } = verified;
    const endMs = verified.expiresMs + LEEWAY_SECONDS * 1000;
    const expired = endMs <= nowMs;
    // An expired token stays what it is.
    const untilMs = expired ? Number.POSITIVE_INFINITY : endMs;
    if (verified.accountId === undefined) {
      return { caller: { principal: undefined, grants, expired, authKind: "token" }, untilMs };
    }
    if (verified.credentialId !== undefined) {
      const login = await loginOf(app, verified.credentialId);
      if (!login) throw refused(app, "what it was given for was revoked or has expired, or its account is gone");
      const { principal, scopes, credential, expiresMs } = login;
      const caller: Caller = { principal, grants, expired, authKind: "token", scopes, credential };
      return { caller, untilMs: Math.min(untilMs, expiresMs ?? untilMs) };
    }
    const principal = await app.lookup.principal(verified.accountId);
    if (!principal) throw refused(app, "its account is gone or disabled");
    if (verified.secret !== undefined && verified.secret !== (await this.#markOf(app, verified.accountId))) {
      throw refused(app, "the password or robot token it was given for has been changed");
    }
    return { caller: { principal, grants, expired, authKind: "token" }, untilMs };
  }

  async #markOf(app: TokenApp, accountId: number): Promise<string | undefined> {
    const account = await app.lookup.account(accountId);
    const against = account && storedSecret(account);
    if (account === undefined || against === undefined) return undefined;
    let mark = this.#marks.get(account);
    if (mark === undefined) {
      mark = secretMark(app, against);
      this.#marks.set(account, mark);
    }
    return mark;
  }
}

async function verify(app: TokenApp, token: string, audience: string): Promise<VerifiedToken> {
  try {
    const { payload } = await jwtVerify(token, (header) => app.tokenKeys.keyOf(header), {
      // Only this algorithm: "none", HS256 over a public key and embedded keys never reach a verification.
      algorithms: [TOKEN_ALGORITHM],
      issuer: app.tokenKeys.issuer,
      audience,
      requiredClaims: ["exp", "iat", "sub"],
      currentDate: new Date(app.clock.nowMs()),
      clockTolerance: EXPIRED_MAX_SECONDS,
      maxTokenAge: EXPIRED_MAX_SECONDS,
    });
    const life = (payload.exp ?? 0) - (payload.iat ?? 0);
    if (life > app.config.REGISTRY_JWT_AUTH_MAX_FRESH_S) throw new errors.JOSEError("it lives too long");
    const { account_id: accountId, credential, secret } = payload;
    app.metrics.bearerDecoded.inc({ success: "True" });
    return {
      accountId: typeof accountId === "number" ? accountId : undefined,
      credentialId: typeof credential === "string" ? credential : undefined,
      secret: typeof secret === "string" ? secret : undefined,
      grants: readGrants(payload.access, app.config),
      expiresMs: (payload.exp ?? 0) * 1000,
      caller: undefined,
    };
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    throw refused(app, error instanceof errors.JOSEError ? error.message : "it cannot be read");
  }
}

/** The access claim of a token we signed: shapes are ours, so only what we write is read. */
function readGrants(access: unknown, config: Pick<Config, "SERVER_HOSTNAME" | "LIBRARY_NAMESPACE">): Grants {
  const grants = new Map<RepositoryPath, Set<RegistryAction | "*">>();
  if (!Array.isArray(access)) return grants;
  for (const entry of access as { name: string; actions: (RegistryAction | "*")[] }[]) {
    const host = config.SERVER_HOSTNAME === undefined ? undefined : `${config.SERVER_HOSTNAME}/`;
    const name = host !== undefined && entry.name.startsWith(host) ? entry.name.slice(host.length) : entry.name;
    const path = (name.includes("/") ? name : `${config.LIBRARY_NAMESPACE}/${name}`) as RepositoryPath;
    const actions = grants.get(path) ?? new Set();
    for (const action of entry.actions) actions.add(action);
    grants.set(path, actions);
  }
  return grants;
}

function refused(app: TokenApp, reason: string): RegistryError {
  app.metrics.bearerDecoded.inc({ success: "False" });
  return new RegistryError("unauthorized", { message: `the bearer token is not valid here: ${reason}` });
}
