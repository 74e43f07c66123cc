/**
 * Removes a deleted user or organization, or a deleted robot, with all that was its own. What it did stays in the action
 * log, which names ids.
 */

import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { endCredentials, endMemberships } from "../namespace/end-rights.ts";
import { claimAccount } from "./claim.ts";
import { endUploadsWhere, type PurgeApp, purgeRepository } from "./purge-repository.ts";
import type { Tally } from "./tally.ts";

const PAGE = 100;

/**
 * Does nothing to an account that lives or is gone. Gives the milliseconds until it may be removed where it can still be
 * restored. Throws the reason of `signal`.
 */
export async function purgeNamespace(
  app: PurgeApp,
  accountId: number,
  tally: Tally,
  signal: AbortSignal,
): Promise<number | undefined> {
  const claim = await claimAccount(app.db, accountId);
  if (claim === "gone") return undefined;
  if (typeof claim === "number") return claim;
  await purgeRepositories(app, accountId, tally, signal);
  for (let isLeft = true; isLeft; ) {
    const robots = await app.db.sql<{ id: number }>`/* purge.robots */
      select id from account where owner_id = ${accountId} order by id limit ${PAGE}`;
    for (const { id } of robots) {
      signal.throwIfAborted();
      await removeAccount(app, toNumber(id));
    }
    isLeft = robots.length > 0;
  }
  await removeAccount(app, accountId);
  if (claim.kind !== "robot") tally.namespaces++;
  return undefined;
}

/** All of them, also when one fails, whose reason is thrown at the end: a store that is away holds up nothing else. */
async function purgeRepositories(app: PurgeApp, accountId: number, tally: Tally, signal: AbortSignal): Promise<void> {
  const failures: unknown[] = [];
  for (let afterId = 0; ; ) {
    const repositories = await app.db.sql<{ id: number }>`/* purge.repositories */
      select id from repository where namespace_id = ${accountId} and id > ${afterId} order by id limit ${PAGE}`;
    if (repositories.length === 0) break;
    for (const row of repositories) {
      signal.throwIfAborted();
      afterId = toNumber(row.id);
      try {
        await purgeRepository(app, afterId, tally, signal, "with its namespace");
      } catch (error) {
        signal.throwIfAborted();
        failures.push(error);
      }
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** One without repositories and robots. Its uploads in others' repositories end. */
async function removeAccount(app: PurgeApp, accountId: number): Promise<void> {
  while ((await endUploadsWhere(app, app.db.sql`account_id = ${accountId}`)) > 0);
  await app.db.tx(async (tx) => {
    await endCredentials(tx, accountId);
    await endMemberships(tx, accountId);
    await removeTeams(tx, accountId);
    await removeOwn(tx, accountId);
    await tx.sql`/* purge.account_end */ delete from account where id = ${accountId}`;
  });
}

async function removeTeams(tx: Tx, accountId: number): Promise<void> {
  const teams = tx.sql`(select id from team where organization_id = ${accountId})`;
  await tx.sql`/* purge.default_roles */ delete from default_permission where organization_id = ${accountId}`;
  await tx.sql`/* purge.team_roles */ delete from repository_permission where team_id in ${teams}`;
  await tx.sql`/* purge.team_invites */
    delete from team_invite where inviter_id = ${accountId} or team_id in ${teams}`;
  await tx.sql`/* purge.retired_members */ delete from retired_member where team_id in ${teams}`;
  await tx.sql`/* purge.team_members */ delete from team_member where team_id in ${teams}`;
  await tx.sql`/* purge.teams */ delete from team where organization_id = ${accountId}`;
}

async function removeOwn(tx: Tx, accountId: number): Promise<void> {
  const own = tx.sql`where namespace_id = ${accountId}`;
  const applications = tx.sql`(select id from oauth_application where organization_id = ${accountId})`;
  await tx.sql`/* purge.app_tokens */ delete from oauth_token where application_id in ${applications}`;
  await tx.sql`/* purge.app_codes */ delete from oauth_code where application_id in ${applications}`;
  await tx.sql`/* purge.app_requests */ delete from oauth_assignment where application_id in ${applications}`;
  await tx.sql`/* purge.apps */ delete from oauth_application where organization_id = ${accountId}`;
  await tx.sql`/* purge.federations */ delete from robot_federation where robot_id = ${accountId}`;
  await tx.sql`/* purge.notices */
    delete from user_notification where account_id = ${accountId} or organization_id = ${accountId}`;
  await tx.sql`/* purge.ns_autoprune */ delete from autoprune_policy ${own}`;
  await tx.sql`/* purge.ns_immutability */ delete from immutability_policy ${own}`;
  await tx.sql`/* purge.quota_limits */
    delete from namespace_quota_limit where quota_id in (select id from namespace_quota ${own})`;
  await tx.sql`/* purge.quotas */ delete from namespace_quota ${own}`;
  await tx.sql`/* purge.ns_usage */ delete from namespace_usage ${own}`;
  await tx.sql`/* purge.ns_blobs */ delete from namespace_blob ${own}`;
  await tx.sql`/* purge.ns_words */ delete from repository_word ${own}`;
  await tx.sql`/* purge.approvals */ update service_key set approver_id = null where approver_id = ${accountId}`;
}
