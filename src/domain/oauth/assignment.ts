/**
 * Assignments: an organization's admin asks a user to give a token to an application, because the token shall act as
 * that user. The user finds the request in the account and approves it as any other authorization. Source: quay-api
 * reference, section 20 (3.12).
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { quoteValue } from "../../oci/quote.ts";
import type { Caller, OauthScope } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { deleteUserNotifications, insertUserNotification } from "../notification/user-notification.ts";
import { findAccount } from "../user/account.ts";
import type { AuthorizationRequest } from "./authorize.ts";
import { formatScopes, parseStoredScopes } from "./scopes.ts";
import {
  type ApplicationColumns,
  type AuthorizedApplication,
  applicationColumns,
  decodeApplicationColumns,
} from "./token.ts";

export interface Assignment {
  readonly id: number;
  readonly uuid: string;
  readonly redirectUri: string;
  readonly scopes: ReadonlySet<OauthScope>;
  readonly responseType: string;
  readonly application: AuthorizedApplication;
}

/**
 * Asks the user for a token. A second request of the same application to the same user replaces the first. Throws
 * `invalid_request` for a user that is not there.
 */
export async function assignToken(
  app: Pick<App, "db" | "clock">,
  request: AuthorizationRequest,
  username: string,
  by: { caller: Caller; request: RequestOrigin },
): Promise<void> {
  const account = await findAccount(app.db, username);
  if (account?.kind !== "user" || !account.enabled) {
    throw new RegistryError("invalid_request", { message: `There is no user ${quoteValue(username)}` });
  }
  const { application, redirectUri, responseType } = request;
  const scope = formatScopes(request.scopes);
  const uuid = crypto.randomUUID();
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await tx.sql`/* oauth_assignment.put */
      insert into oauth_assignment (uuid, application_id, account_id, redirect_uri, scope, response_type, created_ms)
      values (${uuid}, ${application.id}, ${account.id}, ${redirectUri}, ${scope}, ${responseType}, ${nowMs})
      on conflict (application_id, account_id) do update
        set uuid = excluded.uuid, redirect_uri = excluded.redirect_uri, scope = excluded.scope,
            response_type = excluded.response_type, created_ms = excluded.created_ms`;
    const subjectKey = assignmentSubject(application.id, account.id);
    await deleteUserNotifications(tx, subjectKey);
    await insertUserNotification(tx, {
      accountId: account.id,
      kind: "assigned_authorization",
      organizationId: application.organizationId,
      metadata: { username: account.username, application: application.name, uuid },
      subjectKey,
      nowMs,
    });
    await logAction(tx, {
      kind: "oauth_token_assigned",
      caller: by.caller,
      namespaceId: application.organizationId,
      request: by.request,
      nowMs,
      metadata: {
        assigned_user: account.username,
        application_name: application.name,
        client_id: application.clientId,
        scope,
      },
    });
  });
}

/** What the account is asked for, in the order it was asked, after `afterId`. */
export async function listAssignments(
  app: Pick<App, "db">,
  accountId: number,
  afterId: number,
  limit: number,
): Promise<Assignment[]> {
  const rows = await app.db.sql<AssignmentRow>`/* oauth_assignment.list */
    select s.id, s.uuid, s.redirect_uri, s.scope, s.response_type, ${applicationColumns(app.db)}
    from oauth_assignment s join oauth_application a on a.id = s.application_id
      join account o on o.id = a.organization_id
    where s.account_id = ${accountId} and s.id > ${afterId} order by s.id limit ${limit}`;
  return rows.map(decode);
}

/** Refuses what was asked. Throws `not_found`. */
export async function deleteAssignment(app: Pick<App, "db">, accountId: number, uuid: string): Promise<void> {
  await app.db.tx(async (tx) => {
    const [row] = await tx.sql<{ application_id: number }>`/* oauth_assignment.delete */
      delete from oauth_assignment where uuid = ${uuid} and account_id = ${accountId} returning application_id`;
    if (!row) throw new RegistryError("not_found");
    await deleteUserNotifications(tx, assignmentSubject(toNumber(row.application_id), accountId));
  });
}

/** What was asked of the user is given: the request and its notice go. Without one this does nothing. */
export async function settleAssignment(tx: Tx, applicationId: number, accountId: number, uuid: string): Promise<void> {
  const settled = await tx.sql`/* oauth_assignment.settle */
    delete from oauth_assignment
    where uuid = ${uuid} and account_id = ${accountId} and application_id = ${applicationId} returning id`;
  if (settled.length > 0) await deleteUserNotifications(tx, assignmentSubject(applicationId, accountId));
}

/** Names the request in the notice about it: there is one of an application to a user at most. */
function assignmentSubject(applicationId: number, accountId: number): string {
  return `assignment:${applicationId}:${accountId}`;
}

interface AssignmentRow extends ApplicationColumns {
  id: number;
  uuid: string;
  redirect_uri: string;
  scope: string;
  response_type: string;
}

function decode(row: AssignmentRow): Assignment {
  return {
    id: toNumber(row.id),
    uuid: row.uuid,
    redirectUri: row.redirect_uri,
    scopes: parseStoredScopes(row.scope),
    responseType: row.response_type,
    application: decodeApplicationColumns(row),
  };
}
