/**
 * Who is calling and with what authority. Log-in makes a `Caller`; `access.ts` decides what it may do. Nothing here reads
 * a request or the database.
 */

import type { RepositoryPath } from "../../oci/names.ts";

/** The account behind a call, as far as rights need it. */
export interface Principal {
  readonly accountId: number;
  readonly username: string;
  readonly kind: "user" | "robot";
  /** A robot's namespace. */
  readonly ownerId: number | undefined;
  readonly superuser: boolean;
  /** A superuser whose token leaves that out: `superuser` is false then. */
  readonly withoutSuperuser?: true;
  /** May pull every repository (GLOBAL_READONLY_SUPER_USERS). */
  readonly globalReadonly: boolean;
  /** May not create or push in its own namespace (FEATURE_RESTRICTED_USERS). */
  readonly restricted: boolean;
}

/** Actions as registry tokens name them. `*` stands for all three. */
export type RegistryAction = "pull" | "push" | "delete";
export const REGISTRY_ACTIONS: readonly RegistryAction[] = ["pull", "push", "delete"];

/** Scopes of OAuth tokens. Source: quay-api reference, section 1.2. */
export const OAUTH_SCOPES = [
  "repo:read",
  "repo:write",
  "repo:admin",
  "repo:create",
  "user:read",
  "user:admin",
  "org:admin",
  "super:user",
] as const;
export type OauthScope = (typeof OAUTH_SCOPES)[number];

/** What somebody came with, as far as the action log and revocation need it. */
export type Credential =
  | { readonly kind: "password" | "robot" | "session" }
  /** A robot by an ID token of this issuer and subject. */
  | { readonly kind: "federation"; readonly issuer: string; readonly subject: string }
  | { readonly kind: "app-token"; readonly uuid: string; readonly title: string }
  | {
      readonly kind: "oauth";
      readonly uuid: string;
      readonly clientId: string;
      readonly application: string;
    };

export interface Caller {
  /** Undefined: anonymous. */
  readonly principal: Principal | undefined;
  /** What a registry token allows at most; undefined for Basic log-ins, which may all that the account may. */
  readonly grants: ReadonlyMap<RepositoryPath, ReadonlySet<RegistryAction | "*">> | undefined;
  /** The token's time is over: good for nothing but going on with an upload session that carries its own grant. */
  readonly expired: boolean;
  readonly authKind: "anonymous" | "basic" | "token" | "session" | "oauth";
  /** What an OAuth token allows at most; undefined: no such cap. A principal without super:user is no superuser here. */
  readonly scopes?: ReadonlySet<OauthScope> | undefined;
  /** Undefined: anonymous, or a registry token that does not say. */
  readonly credential?: Credential | undefined;
}

export const ANONYMOUS: Caller = { principal: undefined, grants: undefined, expired: false, authKind: "anonymous" };

/**
 * True when the caller's token (if it came with one) covers the action. Quay knows no "delete": its clients ask for push
 * and may delete with it, so push covers it here too.
 */
export function tokenCovers(caller: Caller, path: RepositoryPath, action: RegistryAction): boolean {
  if (caller.grants === undefined) return true;
  const actions = caller.grants.get(path);
  if (actions === undefined) return false;
  return actions.has(action) || actions.has("*") || (action === "delete" && actions.has("push"));
}

/** The scopes of which one is needed for a role on a repository: the wider one holds the narrower. */
const SCOPES_FOR: Record<"read" | "write" | "admin", readonly OauthScope[]> = {
  read: ["repo:read", "repo:write", "repo:admin"],
  write: ["repo:write", "repo:admin"],
  admin: ["repo:admin"],
};

/** True when the caller's OAuth scopes (if it came with any) cover a role on a repository. */
export function scopesCoverRole(caller: Caller, role: "read" | "write" | "admin"): boolean {
  return hasScope(caller, ...SCOPES_FOR[role]);
}

/** True when the caller came without OAuth scopes or with one of these. */
export function hasScope(caller: Caller, ...anyOf: OauthScope[]): boolean {
  const { scopes } = caller;
  return scopes === undefined || anyOf.some((scope) => scopes.has(scope));
}

/** How an upload session and a log entry name who did it. */
export function principalName(caller: Caller): string {
  return caller.principal?.username ?? "(anonymous)";
}
