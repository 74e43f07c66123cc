/**
 * Which rule allows or denies an account an action on a repository, and the facts it looked at. It asks the same functions
 * that decide requests. Who is no superuser asks about itself alone, and learns nothing that the refusal would not tell:
 * a repository that is hidden and one that is absent are answered alike.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { ParsedRepositoryPath } from "../../oci/names.ts";
import { type Action, type Decision, decide, decideCreate, hiddenRule, type Rule } from "../access/access.ts";
import { ANONYMOUS, type Caller, type OauthScope, scopesCoverRole } from "../access/actor.ts";
import { findNamespaceFacts, type RepositoryFacts, type Role } from "../access/facts.ts";
import { refused } from "../access/require.ts";
import { mayOpenNamespace } from "../repository/repository.ts";
import { findAccount } from "../user/account.ts";
import { RULES } from "./rules.ts";

export const ACTIONS = ["pull", "push", "delete", "admin"] as const satisfies readonly Action[];
/** Asks about callers without credentials. No account can have this name. */
export const ANONYMOUS_ACCOUNT = "(anonymous)";

const NEEDED: Record<Action, Exclude<Role, "none">> = { pull: "read", push: "write", delete: "write", admin: "admin" };
/** Teams through which one account has a role on one repository; more would help nobody. */
const SOURCES_MAX = 100;

export interface RoleSource {
  readonly role: Exclude<Role, "none">;
  /** Given to the account, to a team it is in, or by being in an admin team of the organization. */
  readonly source: "direct" | "team" | "organization-admin";
  readonly team: string | undefined;
}

export interface Explanation {
  readonly account: string;
  readonly allowed: boolean;
  readonly rule: Rule;
  readonly sentence: string;
  /** Undefined: there is none, or who asks may not know. */
  readonly repository: RepositoryFacts | undefined;
  readonly roles: readonly RoleSource[];
  /** In the account's own namespace. */
  readonly owner: boolean;
  readonly superuser: boolean;
  readonly globalReadonly: boolean;
  readonly restricted: boolean;
  /** Of the caller's own OAuth token; undefined: no such cap. */
  readonly scopes: readonly OauthScope[] | undefined;
}

type ExplainApp = Pick<App, "config" | "db" | "lookup">;

/**
 * Explains an action. `account` undefined is the caller. Throws `denied` for other accounts unless the caller is a
 * superuser, and `not_found` for an account that is not there.
 */
export async function explain(
  app: ExplainApp,
  caller: Caller,
  input: { account: string | undefined; parsed: ParsedRepositoryPath; action: Action },
): Promise<Explanation> {
  const { parsed, action } = input;
  const account = input.account ?? caller.principal?.username ?? ANONYMOUS_ACCOUNT;
  const seesAll = caller.principal?.superuser === true;
  const subject = await findSubject(app, caller, account);
  const found = await app.lookup.repository(parsed.path);
  const decision = await decideFor(app, subject, found, parsed, action);
  const mayKnow = decision.mayKnow || seesAll;
  const rule = mayKnow ? decision.rule : hiddenRule(subject.caller, scopesCoverRole(subject.caller, NEEDED[action]));
  const { principal } = subject.caller;
  const repository = mayKnow ? found : undefined;
  return {
    account,
    allowed: decision.allowed && !subject.disabled,
    rule: subject.disabled ? "credentials" : rule,
    sentence: RULES[subject.disabled ? "credentials" : rule],
    repository,
    roles: repository && principal ? await findRoleSources(app.db, principal.accountId, repository) : [],
    owner: principal?.kind === "user" && principal.username === parsed.namespace,
    superuser: principal?.superuser === true,
    globalReadonly: principal?.globalReadonly === true,
    restricted: principal?.restricted === true,
    scopes: subject.caller.scopes && [...subject.caller.scopes],
  };
}

interface Subject {
  readonly caller: Caller;
  /** The account is there and cannot log in. */
  readonly disabled: boolean;
}

/** The account as a caller: the caller itself with its token, or another account with all that it may. */
async function findSubject(app: ExplainApp, caller: Caller, account: string): Promise<Subject> {
  if (account === ANONYMOUS_ACCOUNT) return { caller: ANONYMOUS, disabled: false };
  if (account === caller.principal?.username) return { caller, disabled: false };
  const isSuperuser = caller.principal?.superuser === true;
  if (!isSuperuser) throw refused(caller, caller.principal?.withoutSuperuser ? "token-scope" : "not-superuser");
  const found = await findAccount(app.db, account);
  if (!found || found.kind === "organization") throw new RegistryError("not_found");
  const principal = await app.lookup.principal(found.id);
  if (!principal) return { caller: ANONYMOUS, disabled: true };
  return { caller: { ...ANONYMOUS, principal, authKind: "basic" }, disabled: false };
}

async function decideFor(
  app: ExplainApp,
  subject: Subject,
  repository: RepositoryFacts | undefined,
  parsed: ParsedRepositoryPath,
  action: Action,
): Promise<Decision> {
  const { caller } = subject;
  if (repository) {
    const role = await app.lookup.role(caller.principal, repository);
    return decide(app.config, caller, repository, role, action);
  }
  const namespace = await findNamespaceFacts(app.db, parsed.namespace, caller.principal);
  const create = decideCreate(app.config, caller, namespace);
  if (action !== "push") return { ...create, allowed: false, rule: "absent" };
  return !namespace && mayOpenNamespace(app.config, caller) ? OPENS : create;
}

/** The push makes the namespace as well. */
const OPENS: Decision = { allowed: true, rule: "may-create", mayKnow: true };

/** Where the account's roles on a repository come from, the best first. Costs its own grants there. */
async function findRoleSources(db: Db, accountId: number, repository: RepositoryFacts): Promise<RoleSource[]> {
  const rows = await db.sql<{ role: RoleSource["role"]; source: RoleSource["source"]; team: string | null }>`
    /* explain.roles */
    select role, 'direct' as source, null as team from repository_permission
    where account_id = ${accountId} and repository_id = ${repository.id}
    union all
    select p.role, 'team' as source, t.name as team
    from team_member m join team t on t.id = m.team_id
      join repository_permission p on p.team_id = t.id and p.repository_id = ${repository.id}
    where m.account_id = ${accountId}
    union all
    select 'admin' as role, 'organization-admin' as source, t.name as team
    from team_member m join team t on t.id = m.team_id
    where m.account_id = ${accountId} and t.organization_id = ${repository.namespaceId} and t.role = 'admin'
    order by role, source, team limit ${SOURCES_MAX}`;
  return rows.map(({ role, source, team }) => ({ role, source, team: team ?? undefined }));
}
