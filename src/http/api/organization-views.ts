/** How organizations, teams and the people in them look in answers; schemas beside the shapes. Source: quay-api, sections 3 to 5. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { PendingInvite } from "../../domain/team/invites.ts";
import type { TeamMember } from "../../domain/team/members.ts";
import { listRoles, type RepositoryRole } from "../../domain/team/permissions.ts";
import type { Team } from "../../domain/team/team.ts";
import { openPage, type PageApp, sealPage } from "./paging.ts";
import { avatar, avatarSchema } from "./views.ts";

/** Quay gives these lists whole; here they go on behind this many. */
export const LIST_MAX = 5000;

export const nextPageQuery = () => ({ next_page: z.string().optional() });
export const nextPageField = () => ({ next_page: z.string().optional() });

/** Where a page by name begins: what `next_page` says, or the beginning. */
export function pageAfter(app: PageApp, list: string, token: string | undefined, limit = LIST_MAX) {
  return { after: openPage(app, list, token, z.string()) ?? "", limit };
}

/** `next_page`, when the page is full. */
export function nextPage<T>(app: PageApp, list: string, rows: readonly T[], limit: number, keyOf: (row: T) => string) {
  const last = rows.length === limit ? rows.at(-1) : undefined;
  return last === undefined ? {} : { next_page: sealPage(app, list, keyOf(last)) };
}

export const roleSchema = () => z.enum(["read", "write", "admin"]);
export const teamRoleSchema = () => z.enum(["member", "creator", "admin"]);

/** A team's name and picture, as members and robots list the teams they are in. */
export const teamBadgeSchema = () => z.strictObject({ name: z.string(), avatar: avatarSchema() });

export function teamBadge(name: string) {
  return { name, avatar: avatar("team", name) };
}

export const teamSchema = () =>
  z.strictObject({
    name: z.string(),
    description: z.string(),
    can_view: z.boolean(),
    role: teamRoleSchema(),
    avatar: avatarSchema(),
    new_team: z.boolean(),
  });

export function teamView(team: Team, isNew: boolean) {
  const { name, description, role } = team;
  return { name, description, can_view: true, role, avatar: avatar("team", name), new_team: isNew };
}

export const memberSchema = () =>
  z.strictObject({
    name: z.string(),
    kind: z.literal("user"),
    is_robot: z.boolean(),
    avatar: avatarSchema(),
    invited: z.boolean(),
  });

export function memberView(member: TeamMember, invited: boolean) {
  const { name, isRobot } = member;
  return { name, kind: "user", is_robot: isRobot, avatar: personAvatar(member), invited };
}

export const inviteSchema = () =>
  z.strictObject({ email: z.string(), kind: z.literal("invite"), avatar: avatarSchema(), invited: z.literal(true) });

export function emailInviteView(email: string) {
  return { email, kind: "invite", avatar: avatar("user", email, email), invited: true };
}

/** A user who was asked is shown as the member to be, an address as what it is. */
export function inviteView({ username, email }: PendingInvite) {
  if (username === undefined) return emailInviteView(email ?? "");
  return memberView({ name: username, email, isRobot: false }, true);
}

export function personAvatar(person: { name: string; email: string | undefined; isRobot: boolean }) {
  return avatar(person.isRobot ? "robot" : "user", person.name, person.email);
}

export const rolesSchema = () =>
  z.strictObject({
    permissions: z.array(
      z.strictObject({
        repository: z.strictObject({ name: z.string(), is_public: z.boolean() }),
        role: roleSchema(),
      }),
    ),
    ...nextPageField(),
  });

/** A page of the roles of a team or robot; `list` names whose. */
export async function rolesPage(app: App, holder: { teamId: number } | { accountId: number }, token?: string) {
  const list = `roles:${JSON.stringify(holder)}`;
  const page = pageAfter(app, list, token);
  const roles = await listRoles(app.db, holder, page);
  return { ...rolesView(roles), ...nextPage(app, list, roles, page.limit, ({ path }) => path) };
}

function rolesView(roles: readonly RepositoryRole[]) {
  return {
    permissions: roles.map(({ repository, isPublic, role }) => ({
      repository: { name: repository, is_public: isPublic },
      role,
    })),
  };
}
