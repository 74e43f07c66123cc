/**
 * Default permissions (Quay's prototypes): roles that a new repository of an organization grants by itself, always or when a
 * certain account makes it. Applying them is `domain/repository`. Source: quay-api reference, section 5.
 */

import type { App } from "../../app.ts";
import type { Db, SqlQuery, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { lockOrganization } from "../organization/admins.ts";
import { findMemberAccount } from "../team/members.ts";
import { findTeam } from "../team/team.ts";
import type { Account } from "../user/account.ts";

export type DefaultRole = "read" | "write" | "admin";

export interface PrototypeAccount {
  readonly name: string;
  readonly email: string | undefined;
  readonly isRobot: boolean;
  /** In a team of the organization, or a robot of it. */
  readonly isMember: boolean;
}

export interface Prototype {
  /** Their order; not shown. */
  readonly id: number;
  readonly uuid: string;
  readonly role: DefaultRole;
  /** The rule is for what this account makes; undefined: whoever makes it. */
  readonly activating: PrototypeAccount | undefined;
  readonly delegate: { readonly account: PrototypeAccount } | { readonly team: string };
}

type Organization = Pick<Account, "id" | "username">;
interface Change {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

/** A page of an organization's rules, oldest first. */
export async function listPrototypes(
  db: Db,
  organizationId: number,
  page: { afterId: number; limit: number },
): Promise<Prototype[]> {
  return select(db, organizationId, db.sql`and d.id > ${page.afterId}`, page.limit);
}

export interface NewPrototype {
  role: DefaultRole;
  /** Name of a user or robot. */
  activating?: string | undefined;
  delegate: { kind: "user" | "team"; name: string };
}

/**
 * Makes a rule; one for the same two gets the new role instead. Throws `invalid_request`: `Unknown activating user`, and for
 * a delegate that is not there or a robot of another namespace.
 */
export async function createPrototype(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  input: NewPrototype,
  change: Change,
): Promise<Prototype> {
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const activating = await findActivating(tx, organization, input.activating);
    const delegate = await findDelegate(tx, organization, input.delegate);
    const same = await findSame(tx, organization.id, activating?.id, delegate);
    if (same) return changeRole(tx, organization, same, input.role, change, nowMs);
    const uuid = crypto.randomUUID();
    await tx.sql`/* prototype.insert */
      insert into default_permission
        (uuid, organization_id, activating_account_id, delegate_account_id, delegate_team_id, role)
      values (${uuid}, ${organization.id}, ${activating?.id ?? null}, ${delegate.accountId ?? null},
              ${delegate.teamId ?? null}, ${input.role})`;
    const made = await getPrototype(tx, organization.id, uuid);
    await log(tx, "create_prototype_permission", organization, made, change, nowMs);
    return made;
  });
}

/** Throws `not_found`. */
export async function updatePrototype(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  uuid: string,
  role: DefaultRole,
  change: Change,
): Promise<Prototype> {
  return app.db.tx(async (tx) => {
    const found = await getPrototype(tx, organization.id, uuid);
    return changeRole(tx, organization, found, role, change, app.clock.nowMs());
  });
}

/** Throws `not_found`. */
export async function deletePrototype(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  uuid: string,
  change: Change,
): Promise<void> {
  await app.db.tx(async (tx) => {
    const found = await getPrototype(tx, organization.id, uuid);
    await tx.sql`/* prototype.delete */
      delete from default_permission where uuid = ${uuid} and organization_id = ${organization.id}`;
    await log(tx, "delete_prototype_permission", organization, found, change, app.clock.nowMs());
  });
}

async function changeRole(
  tx: Tx,
  organization: Organization,
  found: Prototype,
  role: DefaultRole,
  change: Change,
  nowMs: number,
): Promise<Prototype> {
  if (found.role === role) return found;
  await tx.sql`/* prototype.set_role */
    update default_permission set role = ${role} where uuid = ${found.uuid} and organization_id = ${organization.id}`;
  const changed = { ...found, role };
  const original = { original_role: found.role };
  await log(tx, "modify_prototype_permission", organization, changed, change, nowMs, original);
  return changed;
}

async function getPrototype(db: Db, organizationId: number, uuid: string): Promise<Prototype> {
  const [found] = await select(db, organizationId, db.sql`and d.uuid = ${uuid}`, 1);
  if (!found) throw new RegistryError("not_found");
  return found;
}

interface PrototypeRow {
  id: number;
  uuid: string;
  role: DefaultRole;
  activating: string | null;
  activating_email: string | null;
  activating_kind: string | null;
  activating_member: number;
  delegate: string | null;
  delegate_email: string | null;
  delegate_kind: string | null;
  delegate_member: number;
  team: string | null;
}

async function select(db: Db, organizationId: number, only: SqlQuery<unknown>, limit: number): Promise<Prototype[]> {
  const rows = await db.sql<PrototypeRow>`/* prototype.list */
    select d.id, d.uuid, d.role, t.name as team,
           a.username as activating, a.email as activating_email, a.kind as activating_kind,
           (select count(*) from team_member m join team mt on mt.id = m.team_id
            where m.account_id = a.id and mt.organization_id = d.organization_id) as activating_member,
           g.username as delegate, g.email as delegate_email, g.kind as delegate_kind,
           (select count(*) from team_member m join team mt on mt.id = m.team_id
            where m.account_id = g.id and mt.organization_id = d.organization_id) as delegate_member
    from default_permission d
    left join account a on a.id = d.activating_account_id
    left join account g on g.id = d.delegate_account_id
    left join team t on t.id = d.delegate_team_id
    where d.organization_id = ${organizationId} ${only}
    order by d.id limit ${limit}`;
  return rows.map(decodePrototype);
}

function decodePrototype(row: PrototypeRow): Prototype {
  const delegate = decodeAccount(row.delegate, row.delegate_email, row.delegate_kind, row.delegate_member);
  return {
    id: toNumber(row.id),
    uuid: row.uuid,
    role: row.role,
    activating: decodeAccount(row.activating, row.activating_email, row.activating_kind, row.activating_member),
    delegate: delegate ? { account: delegate } : { team: row.team ?? "" },
  };
}

function decodeAccount(
  name: string | null,
  email: string | null,
  kind: string | null,
  memberships: number,
): PrototypeAccount | undefined {
  if (name === null) return undefined;
  const isRobot = kind === "robot";
  // A robot can only be there because it is the organization's own.
  return { name, email: email ?? undefined, isRobot, isMember: isRobot || toNumber(memberships) > 0 };
}

async function findActivating(tx: Tx, organization: Organization, name: string | undefined) {
  if (name === undefined) return undefined;
  const account = await findMemberAccount(tx, name);
  if (!account) throw invalid("Unknown activating user");
  requireOwnRobot(organization, account);
  return account;
}

interface Delegate {
  readonly accountId?: number;
  readonly teamId?: number;
}

async function findDelegate(tx: Tx, organization: Organization, delegate: NewPrototype["delegate"]): Promise<Delegate> {
  if (delegate.kind === "team") {
    const team = await findTeam(tx, organization.id, delegate.name);
    if (!team) throw invalid(`Unknown delegate team: ${delegate.name}`);
    return { teamId: team.id };
  }
  const account = await findMemberAccount(tx, delegate.name);
  if (!account) throw invalid(`Unknown delegate user: ${delegate.name}`);
  requireOwnRobot(organization, account);
  return { accountId: account.id };
}

/** Source: quay-behaviour reference, section 4: robots only have rights in their own namespace. */
function requireOwnRobot(organization: Organization, account: Account): void {
  if (account.kind !== "robot" || account.ownerId === organization.id) return;
  throw invalid(`Cannot add robot ${account.username} under namespace ${organization.username}`);
}

async function findSame(tx: Tx, organizationId: number, activatingId: number | undefined, delegate: Delegate) {
  const [row] = await tx.sql<{ uuid: string }>`/* prototype.same */
    select uuid from default_permission
    where organization_id = ${organizationId} and coalesce(activating_account_id, 0) = ${activatingId ?? 0}
      and coalesce(delegate_account_id, 0) = ${delegate.accountId ?? 0}
      and coalesce(delegate_team_id, 0) = ${delegate.teamId ?? 0}`;
  return row && getPrototype(tx, organizationId, row.uuid);
}

async function log(
  tx: Tx,
  kind: ActionKind,
  organization: Organization,
  rule: Prototype,
  { caller, request }: Change,
  nowMs: number,
  more: Record<string, unknown> = {},
): Promise<void> {
  const who =
    "team" in rule.delegate ? { delegate_team: rule.delegate.team } : { delegate_user: rule.delegate.account.name };
  const metadata = {
    prototypeid: rule.uuid,
    username: caller.principal?.username ?? null,
    role: rule.role,
    activating_username: rule.activating?.name ?? null,
    ...who,
    ...more,
  };
  await logAction(tx, { kind, caller, namespaceId: organization.id, request, nowMs, metadata });
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
