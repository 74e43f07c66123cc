/**
 * Making an organization: its account, and a team `owners` of role admin with whoever made it. By the API, and by a push
 * to a namespace that nobody has. Source: quay-behaviour reference, section 4.
 */

import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { durationMs } from "../../config/units.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { parseEmail, parseNamespaceName } from "../../oci/names.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { isMailing } from "../mail/mailing.ts";
import { requireHuman } from "../sign-up/captcha.ts";
import { findAccount, insertAccount } from "../user/account.ts";

export const OWNERS_TEAM = "owners";

type CreationPolicy = Pick<Config, "FEATURE_SUPER_USERS" | "FEATURE_SUPERUSERS_ORG_CREATION_ONLY">;

/** Whether somebody may make organizations at all. Source: quay-behaviour reference, section 3. */
export function mayCreateOrganizations(config: CreationPolicy, principal: Principal | undefined): boolean {
  if (principal?.kind !== "user" || principal.restricted) return false;
  return principal.superuser || !config.FEATURE_SUPERUSERS_ORG_CREATION_ONLY;
}

export interface NewOrganization {
  name: string;
  email?: string | undefined;
  /** The answer to the captcha, where one is asked for. */
  captcha?: string | undefined;
  request: RequestOrigin;
}

/** Makes an organization for the caller. Throws `denied`, `captcha_failed`, `invalid_request` and `name_invalid` with Quay's texts. */
export async function createOrganization(
  app: Pick<App, "config" | "db" | "clock" | "captcha">,
  caller: Caller,
  input: NewOrganization,
): Promise<number> {
  const { principal } = caller;
  if (principal?.restricted) throw new RegistryError("denied", { message: "Disallowed for restricted users." });
  if (!principal || !mayCreateOrganizations(app.config, principal)) throw new RegistryError("denied");
  await requireHuman(app, { caller, answer: input.captcha, request: input.request });
  // An empty field is how web forms leave it out.
  const email = input.email === "" ? undefined : input.email;
  if (email === undefined && isMailing(app.config)) throw invalid("Email address is required");
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    if (await findAccount(tx, input.name)) throw invalid("A user or organization with this name already exists");
    const name = parseNamespaceName(input.name);
    const stored = email === undefined ? {} : await storedEmail(app.config, tx, parseEmail(email));
    const facts = {
      name,
      ...stored,
      tagExpirationSeconds: durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000,
      nowMs,
    };
    return insertOrganization(tx, { ...facts, caller, creatorId: principal.accountId, request: input.request });
  });
}

/**
 * Where an organization's address is kept: among those that nobody else may have, or, with FEATURE_ORG_SHARED_EMAIL, where
 * several organizations may have the same. Throws `invalid_request` with `takenText` or Quay's text for new accounts.
 */
export async function storedEmail(
  config: Pick<Config, "FEATURE_ORG_SHARED_EMAIL">,
  tx: Tx,
  email: string,
  options: { exceptId?: number; takenText?: string } = {},
): Promise<{ email?: string; sharedEmail?: string }> {
  if (config.FEATURE_ORG_SHARED_EMAIL) return { sharedEmail: email };
  const rows = await tx.sql`/* organization.email_taken */
    select id from account where email = ${email} and id <> ${options.exceptId ?? 0} limit 1`;
  if (rows.length > 0) throw invalid(options.takenText ?? `Email has already been used: ${email}`);
  return { email };
}

export interface InsertOrganization {
  /** Parsed before, and free. */
  name: string;
  email?: string;
  sharedEmail?: string;
  creatorId: number;
  caller: Caller;
  request: RequestOrigin;
  tagExpirationSeconds: number;
  nowMs: number;
}

/** The rows of an organization and the log entry. Throws `invalid_request` when the name was taken meanwhile. */
export async function insertOrganization(tx: Tx, input: InsertOrganization): Promise<number> {
  const { nowMs } = input;
  const id = await insertAccount(tx, {
    kind: "organization",
    username: input.name,
    ...(input.email === undefined ? {} : { email: input.email }),
    tagExpirationSeconds: input.tagExpirationSeconds,
    nowMs,
  });
  if (input.sharedEmail !== undefined) {
    await tx.sql`/* organization.share_email */ update account set shared_email = ${input.sharedEmail} where id = ${id}`;
  }
  await insertOwners(tx, id, input.creatorId, nowMs);
  await logAction(tx, {
    kind: "org_create",
    caller: input.caller,
    namespaceId: id,
    request: input.request,
    nowMs,
    metadata: { email: input.email ?? input.sharedEmail ?? null, namespace: input.name },
  });
  return id;
}

/** A team of role admin with one member. Its name must be free. */
export async function insertOwners(
  tx: Tx,
  organizationId: number,
  ownerId: number,
  nowMs: number,
  name: string = OWNERS_TEAM,
): Promise<void> {
  const [team] = await tx.sql<{ id: number }>`/* organization.owners */
    insert into team (organization_id, name, role, created_ms)
    values (${organizationId}, ${name}, 'admin', ${nowMs}) returning id`;
  await tx.sql`/* organization.owner */
    insert into team_member (team_id, account_id) values (${toNumber(team?.id)}, ${ownerId})`;
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
