/** Entries of pulls, pushes and deletions that were refused: on with the ACTION_LOG_AUDIT_…_FAILURES keys, off by default. */

import type { App } from "../../app.ts";
import type { ConfigKey } from "../../config/schema.ts";
import type { ErrorCode, RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { pathRules } from "../blob/blob.ts";
import { type RequestOrigin, who } from "./audit.ts";
import type { ActionKind } from "./kinds.ts";
import { MESSAGE_SHOWN_MAX, printable } from "./printable.ts";

export interface FailedAttempt {
  readonly method: string;
  /** As the path of the request has it: may be no name at all. */
  readonly name: string;
  readonly reference: string;
  readonly caller: Caller;
  /** False for a client that has not been told yet how to authenticate: its 401 is how every pull begins. */
  readonly hadCredentials: boolean;
  readonly error: RegistryError;
  origin(): RequestOrigin;
}

const KINDS: Readonly<Record<string, readonly [ActionKind, ConfigKey]>> = {
  GET: ["pull_repo_failed", "ACTION_LOG_AUDIT_PULL_FAILURES"],
  PUT: ["push_repo_failed", "ACTION_LOG_AUDIT_PUSH_FAILURES"],
  DELETE: ["delete_tag_failed", "ACTION_LOG_AUDIT_DELETE_FAILURES"],
};

/** Faults of ours: they are in the server's log, and nobody is to be blamed for them. */
const OURS: ReadonlySet<ErrorCode> = new Set(["unavailable", "storage_full", "registry_readonly"]);

/** Notes a refused request for a manifest. */
export function noteFailedAttempt(app: Pick<App, "audit" | "config">, attempt: FailedAttempt): void {
  const [kind, key] = (Object.hasOwn(KINDS, attempt.method) && KINDS[attempt.method]) || [];
  if (kind === undefined || key === undefined || app.config[key] !== true) return;
  if (!attempt.hadCredentials && attempt.error.code === "unauthorized") return;
  if (OURS.has(attempt.error.code)) return;
  const request = attempt.origin();
  const { namespace, name } = split(attempt.name, pathRules(app.config).libraryNamespace);
  const reference = printable(attempt.reference);
  app.audit.note({
    kind,
    namespace: { name: namespace },
    repositoryPath: `${namespace}/${name}`,
    performer: attempt.caller.principal && {
      id: attempt.caller.principal.accountId,
      name: attempt.caller.principal.username,
    },
    request,
    metadata: {
      repo: name,
      namespace,
      ...(reference.includes(":") ? { manifest_digest: reference } : { tag: reference }),
      "user-agent": request.userAgent ?? "",
      message: printable(attempt.error.message, MESSAGE_SHOWN_MAX),
      ...(attempt.caller.principal ? who(attempt.caller) : {}),
    },
  });
}

function split(path: string, library: string | undefined): { namespace: string; name: string } {
  const text = printable(path);
  const slash = text.indexOf("/");
  if (slash === -1) return { namespace: library ?? "", name: text };
  return { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}
