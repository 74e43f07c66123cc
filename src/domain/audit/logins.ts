/**
 * Entries of logging in and out. They go through the batch: nothing waits for them, and a flood of wrong passwords costs
 * no transaction each. Metadata: quay-behaviour reference, section 13.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { findRobotName, isRobotLike } from "../../oci/names.ts";
import type { Credential, Principal } from "../access/actor.ts";
import { type ActionMetadata, type RequestOrigin, robotOwner } from "./audit.ts";
import { MESSAGE_SHOWN_MAX, printable } from "./printable.ts";

type AuditApp = Pick<App, "audit" | "config">;

/** How somebody logged in: the page and its API, a client at /v2/auth, or another service that vouches for them. */
export type LoginType = "quayauth" | "v2auth" | "oauth" | "ldap";

/** Notes a log-in that was found right. Quay calls it one when no scope is asked for; a pull has its own entry. */
export function noteLogin(
  app: AuditApp,
  login: { type: LoginType; principal: Principal; credential?: Credential | undefined; request: RequestOrigin },
): void {
  if (!app.config.ACTION_LOG_AUDIT_LOGINS) return;
  const { type, principal, credential, request } = login;
  app.audit.note({
    kind: "login_success",
    namespace: namespaceOf(principal),
    performer: { id: principal.accountId, name: principal.username },
    request,
    metadata: { type, useragent: request.userAgent ?? "", ...kindOf(principal, credential) },
  });
}

/** Notes a log-in that failed; `username` is what was typed. Only errors that say so about the log-in are noted. */
export function noteFailedLogin(
  app: AuditApp,
  login: { type: LoginType; username: string; error: unknown; request: RequestOrigin },
): void {
  if (!app.config.ACTION_LOG_AUDIT_LOGIN_FAILURES) return;
  const { type, username, error, request } = login;
  if (!(error instanceof RegistryError) || !FAILURES.has(error.code)) return;
  const isRobot = findRobotName(username) !== undefined;
  app.audit.note({
    kind: "login_failure",
    namespace: isRobot ? { name: robotOwner(username) } : undefined,
    performer: isRobot ? { name: username } : undefined,
    request,
    metadata: {
      type,
      ...attempted(username),
      useragent: request.userAgent ?? "",
      message: printable(error.message, MESSAGE_SHOWN_MAX),
    },
  });
}

/** Notes that a browser's user signed out. */
export function noteLogout(app: AuditApp, logout: { principal: Principal; request: RequestOrigin }): void {
  if (!app.config.ACTION_LOG_AUDIT_LOGINS) return;
  const { principal, request } = logout;
  app.audit.note({
    kind: "logout_success",
    namespace: namespaceOf(principal),
    performer: { id: principal.accountId, name: principal.username },
    request,
    metadata: { type: "quayauth", useragent: request.userAgent ?? "" },
  });
}

const FAILURES: ReadonlySet<string> = new Set(["unauthorized", "denied", "token_expired", "too_many_logins"]);

/** A robot's log-in concerns its owner. */
function namespaceOf(principal: Principal): { id: number | undefined; name: string } {
  if (principal.kind === "user") return { id: principal.accountId, name: principal.username };
  return { id: principal.ownerId, name: robotOwner(principal.username) };
}

function kindOf(principal: Principal, credential: Credential | undefined): ActionMetadata {
  if (credential?.kind === "app-token") {
    return { kind: "app_specific_token", app_specific_token_title: credential.title, username: principal.username };
  }
  if (credential?.kind === "oauth") return { kind: "oauth", username: principal.username };
  if (principal.kind === "robot") return { kind: "robot", robot: principal.username };
  return { kind: "user", username: principal.username };
}

/** Under `$app` and `$oauthtoken` what was typed says nothing of who it was. */
function attempted(username: string): ActionMetadata {
  if (username === "$app") return { kind: "app_specific_token" };
  if (username === "$oauthtoken") return { kind: "oauth" };
  const shown = printable(username);
  return isRobotLike(username) ? { kind: "robot", robot: shown } : { kind: "user", username: shown };
}
