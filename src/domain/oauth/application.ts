/**
 * OAuth applications of an organization: what may ask users for tokens, and where it may send them afterwards. Source:
 * quay-api reference, section 16.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { credentialKey } from "../credential/credential.ts";
import { type Account, EVERYTHING } from "../user/account.ts";
import { requireRegistrable } from "./redirect.ts";

export interface Application {
  readonly id: number;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly organizationId: number;
  readonly name: string;
  readonly redirectUri: string;
  readonly applicationUri: string;
  readonly description: string;
  readonly avatarEmail: string | undefined;
}

/** The fields that an admin sets. */
export interface ApplicationFields {
  readonly name: string;
  readonly redirectUri: string;
  readonly applicationUri: string;
  readonly description: string;
  readonly avatarEmail: string | undefined;
}

/** Source: quay-behaviour reference, section 1. */
const CLIENT_ID_CHARS = 20;
const CLIENT_SECRET_CHARS = 40;
const TEXT_CHARS_MAX = 255;
const DESCRIPTION_CHARS_MAX = 4096;

type ApplicationApp = Pick<App, "db" | "clock" | "secrets">;

/** An admin's change to an organization's application. */
export interface ApplicationChange {
  readonly organization: Pick<Account, "id">;
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

/** Applications of an organization in the order they were made, after `afterId`. */
export async function listApplications(
  app: Pick<App, "db" | "secrets">,
  organizationId: number,
  afterId: number,
  limit: number,
): Promise<Application[]> {
  const rows = await app.db.sql<ApplicationRow>`/* oauth_application.list */ ${select(app.db)}
    where organization_id = ${organizationId} and id > ${afterId} order by id limit ${limit}`;
  return rows.map((row) => decode(app, row));
}

/** By its client_id, undefined when there is none, or its organization was deleted. */
export async function findApplication(
  app: Pick<App, "db" | "secrets">,
  clientId: string,
): Promise<Application | undefined> {
  const [row] = await app.db.sql<ApplicationRow>`/* oauth_application.find */ ${select(app.db)}
    where client_id = ${clientId}
      and exists (select 1 from account o where o.id = oauth_application.organization_id and o.deleted_ms is null)`;
  return row && decode(app, row);
}

/** The organization's application of that client_id. Throws `not_found`, also for another organization's. */
export async function getApplication(
  app: Pick<App, "db" | "secrets">,
  organizationId: number,
  clientId: string,
): Promise<Application> {
  const application = await findApplication(app, clientId);
  if (application?.organizationId !== organizationId) throw new RegistryError("not_found");
  return application;
}

/** Makes an application with a client_id and a secret of its own. Throws `invalid_request`. */
export async function createApplication(
  app: ApplicationApp,
  change: ApplicationChange,
  fields: ApplicationFields,
): Promise<Application> {
  requireFields(fields);
  const clientId = randomText(CLIENT_ID_CHARS);
  await app.db.tx(async (tx) => {
    const nowMs = app.clock.nowMs();
    const secret = app.secrets.seal(randomText(CLIENT_SECRET_CHARS));
    await tx.sql`/* oauth_application.insert */
      insert into oauth_application (client_id, client_secret_encrypted, organization_id, name, redirect_uri,
                                     application_uri, description, avatar_email, created_ms)
      values (${clientId}, ${secret}, ${change.organization.id}, ${fields.name}, ${fields.redirectUri},
              ${fields.applicationUri}, ${fields.description}, ${fields.avatarEmail ?? null}, ${nowMs})`;
    await log(app, tx, change, "create_application", clientId, fields);
  });
  return getApplication(app, change.organization.id, clientId);
}

/** Replaces the fields. Throws `not_found`, `invalid_request`. */
export async function updateApplication(
  app: ApplicationApp,
  change: ApplicationChange,
  clientId: string,
  fields: ApplicationFields,
): Promise<Application> {
  requireFields(fields);
  await app.db.tx(async (tx) => {
    const [row] = await tx.sql`/* oauth_application.update */
      update oauth_application
      set name = ${fields.name}, redirect_uri = ${fields.redirectUri}, application_uri = ${fields.applicationUri},
          description = ${fields.description}, avatar_email = ${fields.avatarEmail ?? null}
      where client_id = ${clientId} and organization_id = ${change.organization.id} returning id`;
    if (!row) throw new RegistryError("not_found");
    await log(app, tx, change, "update_application", clientId, fields);
  });
  return getApplication(app, change.organization.id, clientId);
}

/** Gives the application a new secret; the old one is good for nothing from then on. Throws `not_found`. */
export async function resetClientSecret(
  app: ApplicationApp,
  change: ApplicationChange,
  clientId: string,
): Promise<Application> {
  const application = await getApplication(app, change.organization.id, clientId);
  await app.db.tx(async (tx) => {
    await tx.sql`/* oauth_application.reset_secret */
      update oauth_application set client_secret_encrypted = ${app.secrets.seal(randomText(CLIENT_SECRET_CHARS))}
      where id = ${application.id}`;
    await log(app, tx, change, "reset_application_client_secret", clientId, application);
  });
  return getApplication(app, change.organization.id, clientId);
}

/** Tokens named one by one when an application goes; of more than these, everything cached is dropped instead. */
const NAMED_TOKENS_MAX = 200;

/** Removes an application with its tokens, codes and requests, at once on every instance. Throws `not_found`. */
export async function deleteApplication(
  app: ApplicationApp,
  change: ApplicationChange,
  clientId: string,
): Promise<void> {
  const application = await getApplication(app, change.organization.id, clientId);
  await app.db.tx(async (tx) => {
    const { id } = application;
    const tokens = await tx.sql<{ uuid: string }>`/* oauth_application.tokens */
      select uuid from oauth_token where application_id = ${id} limit ${NAMED_TOKENS_MAX + 1}`;
    if (tokens.length > NAMED_TOKENS_MAX) tx.changed(EVERYTHING);
    else tx.changed(...tokens.map(({ uuid }) => credentialKey(`oauth:${uuid}`)));
    await tx.sql`/* oauth_application.delete_tokens */ delete from oauth_token where application_id = ${id}`;
    await tx.sql`/* oauth_application.delete_codes */ delete from oauth_code where application_id = ${id}`;
    await tx.sql`/* oauth_application.delete_notices */
      delete from user_notification where subject_key in
        (select 'assignment:' || application_id || ':' || account_id from oauth_assignment where application_id = ${id})`;
    await tx.sql`/* oauth_application.delete_requests */ delete from oauth_assignment where application_id = ${id}`;
    await tx.sql`/* oauth_application.delete */ delete from oauth_application where id = ${id}`;
    await log(app, tx, change, "delete_application", clientId, application);
  });
}

function requireFields(fields: ApplicationFields): void {
  if (fields.name.trim() === "") {
    throw new RegistryError("invalid_request", { message: "An application needs a name" });
  }
  for (const [name, value] of Object.entries(fields) as [string, string | undefined][]) {
    const max = name === "description" ? DESCRIPTION_CHARS_MAX : TEXT_CHARS_MAX;
    if (value !== undefined && value.length > max) {
      throw new RegistryError("invalid_request", {
        message: `The ${name} of an application has at most ${max} characters`,
      });
    }
  }
  requireRegistrable(fields.redirectUri);
  // It becomes a link on the consent page.
  if (fields.applicationUri !== "" && !/^https?:\/\/[^\s]+$/.test(fields.applicationUri)) {
    throw new RegistryError("invalid_request", { message: "The application_uri must be an http or https address" });
  }
}

/** Source of the metadata: quay-behaviour reference, section 13. */
async function log(
  app: Pick<App, "clock">,
  tx: Tx,
  change: ApplicationChange,
  kind: ActionKind,
  clientId: string,
  fields: ApplicationFields,
): Promise<void> {
  const isEdit = kind === "create_application" || kind === "update_application";
  const edited = {
    redirect_uri: fields.redirectUri,
    application_uri: fields.applicationUri,
    description: fields.description,
    avatar_email: fields.avatarEmail ?? null,
  };
  await logAction(tx, {
    kind,
    caller: change.caller,
    namespaceId: change.organization.id,
    request: change.request,
    nowMs: app.clock.nowMs(),
    metadata: { application_name: fields.name, client_id: clientId, ...(isEdit ? edited : {}) },
  });
}

interface ApplicationRow {
  id: number;
  client_id: string;
  client_secret_encrypted: string | null;
  organization_id: number;
  name: string;
  redirect_uri: string;
  application_uri: string;
  description: string;
  avatar_email: string | null;
}

const select = (db: Db) => db.sql`
  select id, client_id, client_secret_encrypted, organization_id, name, redirect_uri, application_uri, description,
         avatar_email
  from oauth_application`;

function decode(app: Pick<App, "secrets">, row: ApplicationRow): Application {
  return {
    id: toNumber(row.id),
    clientId: row.client_id,
    clientSecret: row.client_secret_encrypted === null ? "" : app.secrets.open(row.client_secret_encrypted),
    organizationId: toNumber(row.organization_id),
    name: row.name,
    redirectUri: row.redirect_uri,
    applicationUri: row.application_uri,
    description: row.description,
    avatarEmail: row.avatar_email ?? undefined,
  };
}
