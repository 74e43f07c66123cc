/**
 * Repositories: finding one on behalf of a caller without telling more than the caller may know, and creating one by
 * pushing to it. Which of them a caller sees in a list is `list.ts`.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import type { ParsedRepositoryPath, RepositoryPath } from "../../oci/names.ts";
import { type Decision, decide, decideCreate, hiddenRule } from "../access/access.ts";
import { type Caller, hasScope, type RegistryAction, scopesCoverRole, tokenCovers } from "../access/actor.ts";
import { findNamespaceFacts, type NamespaceFacts, type RepositoryFacts } from "../access/facts.ts";
import { namespaceDisabled } from "../access/refusal.ts";
import { logRepositoryAction, type RequestOrigin } from "../audit/audit.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import { lockNamespace } from "../namespace/lock.ts";
import { insertOrganization, mayCreateOrganizations } from "../organization/create-organization.ts";
import { insertWords, setWordsVisibility } from "./words.ts";

type AccessApp = Pick<App, "config" | "db" | "lookup" | "clock">;

/**
 * The repository, if the caller may do `action` there. Throws what the caller may learn: `name_unknown` only to those who
 * could create it or may read it; to others an absent and a hidden repository are the same `unauthorized` or `denied`.
 */
export async function requireRepository(
  app: AccessApp,
  caller: Caller,
  parsed: ParsedRepositoryPath,
  action: RegistryAction,
): Promise<RepositoryFacts> {
  // A token's caller is one object for as long as nothing changes: its pulls are decided once.
  const isTokenPull = action === "pull" && caller.grants !== undefined && !caller.expired;
  const pullable = isTokenPull ? app.lookup.pullable(caller, parsed.path) : undefined;
  if (pullable) return pullable;
  const { version } = app.lookup;
  const repository = await app.lookup.repository(parsed.path);
  if (repository) {
    const role = await app.lookup.role(caller.principal, repository);
    const decision = decide(app.config, caller, repository, role, action);
    if (decision.allowed) {
      requireImages(repository);
      if (isTokenPull) app.lookup.keepPullable(caller, repository, version);
      return repository;
    }
    throw refusal(caller, parsed.path, action, decision, repository);
  }
  const namespace = await findNamespaceFacts(app.db, parsed.namespace, caller.principal);
  const decision = decideCreate(app.config, caller, namespace);
  // A token for something else is told as little as of a repository that exists: 404 beside 401 would tell them apart.
  if (decision.mayKnow && !caller.expired && tokenCovers(caller, parsed.path, action)) {
    throw new RegistryError("name_unknown", { message: "repository not found", detail: { name: parsed.path } });
  }
  throw refusal(caller, parsed.path, action, { ...decision, mayKnow: false }, undefined);
}

/** The repository to push to, created if it is missing and the caller may create it. Throws as `requireRepository`. */
export async function requireRepositoryForPush(
  app: AccessApp,
  caller: Caller,
  parsed: ParsedRepositoryPath,
  request: RequestOrigin,
): Promise<RepositoryFacts> {
  if (await app.lookup.repository(parsed.path)) return requireRepository(app, caller, parsed, "push");
  const namespace = await findOrCreateNamespace(app, caller, parsed, request);
  const decision = decideCreate(app.config, caller, namespace);
  const covered = tokenCovers(caller, parsed.path, "push");
  if (!decision.allowed || !covered || !namespace) {
    const rule = decision.allowed ? { ...decision, allowed: false, rule: "token-scope" as const } : decision;
    throw refusal(caller, parsed.path, "push", rule, undefined);
  }
  await createRepository(app, { parsed, namespace, caller, request });
  return requireRepository(app, caller, parsed, "push");
}

/** Quay's "application" repositories are kept by name alone: /v2 serves images. Source: quay-api reference, section 19. */
function requireImages(repository: RepositoryFacts): void {
  if (repository.kind === "image") return;
  const message = `"${repository.path}" is a repository of kind "${repository.kind}": only kind "image" can be pushed and pulled`;
  throw new RegistryError("unsupported", { message, detail: { name: repository.path } });
}

/** CREATE_NAMESPACE_ON_PUSH: a user's push to a namespace nobody has makes it an organization of that user. */
async function findOrCreateNamespace(
  app: AccessApp,
  caller: Caller,
  parsed: ParsedRepositoryPath,
  request: RequestOrigin,
): Promise<NamespaceFacts | undefined> {
  const { principal } = caller;
  const found = await findNamespaceFacts(app.db, parsed.namespace, principal);
  // Asked before anything is made: a token for something else must leave no organization behind.
  const isPush = !caller.expired && tokenCovers(caller, parsed.path, "push");
  if (found || !principal || !mayOpenNamespace(app.config, caller) || !isPush) return found;
  const nowMs = app.clock.nowMs();
  const tagExpirationSeconds = durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000;
  const facts = { name: parsed.namespace, creatorId: principal.accountId, tagExpirationSeconds, nowMs };
  await app.db.tx((tx) => insertOrganization(tx, { ...facts, caller, request }));
  return findNamespaceFacts(app.db, parsed.namespace, principal);
}

/** Whether a push by this caller to a namespace that nobody has would make it an organization. */
export function mayOpenNamespace(config: App["config"], caller: Caller): boolean {
  if (!config.CREATE_NAMESPACE_ON_PUSH || config.REGISTRY_STATE === "readonly" || config.DISABLE_PUSHES) return false;
  const isCovered = hasScope(caller, "org:admin") && hasScope(caller, "repo:create");
  return isCovered && mayCreateOrganizations(config, caller.principal);
}

export interface CreateRepository {
  parsed: ParsedRepositoryPath;
  namespace: NamespaceFacts;
  caller: Caller;
  request: RequestOrigin;
  visibility?: "public" | "private";
  kind?: RepositoryFacts["kind"];
  description?: string;
}

/**
 * Makes a repository; one that another request made meanwhile is taken as it is. The creator becomes its admin when the
 * namespace is not its own, and the namespace's default permissions are applied. Gives true when this call made it.
 * Source: quay-behaviour, section 4.
 */
export async function createRepository(app: AccessApp, input: CreateRepository): Promise<boolean> {
  const { parsed, namespace, caller } = input;
  const visibility = input.visibility ?? (app.config.CREATE_PRIVATE_REPO_ON_PUSH ? "private" : "public");
  const nowMs = app.clock.nowMs();
  try {
    await app.db.tx(async (tx) => {
      await lockNamespace(tx, namespace);
      const [row] = await tx.sql<{ id: number }>`/* repository.insert */
        insert into repository (namespace_id, name, path, kind, visibility, description, created_ms)
        values (${namespace.id}, ${parsed.name}, ${parsed.path}, ${input.kind ?? "image"}, ${visibility},
                ${input.description ?? ""}, ${nowMs})
        returning id`;
      const id = toNumber(row?.id);
      await insertWords(tx, { id, name: parsed.name });
      const creatorId = caller.principal?.accountId;
      if (creatorId !== undefined && creatorId !== namespace.id) {
        await grantInitialRoles(tx, id, namespace.id, creatorId);
      }
      const repository = { id, name: parsed.name, namespace: parsed.namespace, namespaceId: namespace.id };
      await logRepositoryAction(tx, { kind: "create_repo", caller, repository, request: input.request, nowMs });
      tx.changed(repositoryKey(id));
    });
    return true;
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    return false;
  }
}

/** Rules that name the creator win over general ones for the same delegate. Source: quay-behaviour, section 4. */
async function grantInitialRoles(tx: Tx, repositoryId: number, namespaceId: number, creatorId: number): Promise<void> {
  await tx.sql`/* repository.creator_role */
    insert into repository_permission (repository_id, account_id, role) values (${repositoryId}, ${creatorId}, 'admin')`;
  const rules = await tx.sql<{
    account_id: number | null;
    team_id: number | null;
    role: string;
  }>`/* repository.default_roles */
    select delegate_account_id as account_id, delegate_team_id as team_id, role from default_permission
    where organization_id = ${namespaceId}
      and (activating_account_id is null or activating_account_id = ${creatorId})
      and (delegate_account_id is null or delegate_account_id <> ${creatorId})
    order by case when activating_account_id is null then 1 else 0 end, id`;
  for (const rule of rules) {
    await tx.sql`/* repository.default_role */
      insert into repository_permission (repository_id, account_id, team_id, role)
      values (${repositoryId}, ${rule.account_id}, ${rule.team_id}, ${rule.role}) on conflict do nothing`;
  }
}

/** Gives an account a role on a repository, or takes it away with "none". */
export async function setAccountRole(
  tx: Tx,
  input: { repositoryId: number; accountId: number; role: "none" | "read" | "write" | "admin" },
): Promise<void> {
  await tx.sql`/* repository.clear_role */
    delete from repository_permission
    where repository_id = ${input.repositoryId} and account_id = ${input.accountId}`;
  if (input.role !== "none") {
    await tx.sql`/* repository.set_role */
      insert into repository_permission (repository_id, account_id, role)
      values (${input.repositoryId}, ${input.accountId}, ${input.role})`;
  }
  tx.changed(repositoryKey(input.repositoryId));
}

/** Makes a repository public or private, at once for every cached pull. */
export async function setVisibility(tx: Tx, repositoryId: number, visibility: "public" | "private"): Promise<void> {
  await tx.sql`/* repository.set_visibility */ update repository set visibility = ${visibility} where id = ${repositoryId}`;
  await setWordsVisibility(tx, repositoryId, visibility);
  tx.changed(repositoryKey(repositoryId));
}

/** NORMAL, READ_ONLY or MIRROR, effective for the next request. */
export async function setState(tx: Tx, repositoryId: number, state: RepositoryFacts["state"]): Promise<void> {
  await tx.sql`/* repository.set_state */ update repository set state = ${state} where id = ${repositoryId}`;
  tx.changed(repositoryKey(repositoryId));
}

/** What a refused caller is told. The texts of states are told only to those who may know the repository. */
function refusal(
  caller: Caller,
  path: RepositoryPath,
  action: RegistryAction,
  decision: Decision,
  repository: RepositoryFacts | undefined,
): RegistryError {
  const isCovered = tokenCovers(caller, path, action) && scopesCoverRole(caller, action === "pull" ? "read" : "write");
  const rule = decision.mayKnow ? decision.rule : hiddenRule(caller, isCovered);
  const detail = { name: path, action, decision: rule };
  if (decision.mayKnow && repository) {
    if (decision.rule === "repository-state") {
      const message = `Repository is in read only or mirror mode: ${repository.state}`;
      return new RegistryError("denied", { message, detail: { ...detail, state: repository.state } });
    }
    if (decision.rule === "namespace-disabled") return namespaceDisabled(repository.namespace);
  }
  if (decision.mayKnow && decision.rule === "registry-readonly") {
    return new RegistryError("registry_readonly", { message: "System is currently read-only.", detail });
  }
  // A log-in with every right the account has can only be told "no"; others may come back with more.
  if (caller.authKind === "basic") {
    const message = `${action} on "${path}" is not allowed for "${caller.principal?.username ?? ""}", or it does not exist`;
    return new RegistryError("denied", { message, detail });
  }
  return new RegistryError("unauthorized", { message: "access to the requested resource is not authorized", detail });
}
