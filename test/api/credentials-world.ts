/** What the tests of credentials share: an organization with an application, tokens by the domain, and the log. */

import type { Caller } from "../../src/domain/access/actor.ts";
import { OAUTH_SCOPES, type OauthScope } from "../../src/domain/access/actor.ts";
import { type Application, createApplication, findApplication } from "../../src/domain/oauth/application.ts";
import { insertToken } from "../../src/domain/oauth/token.ts";
import { createOrganization } from "../../src/domain/organization/create-organization.ts";
import { findAccount, toPrincipal } from "../../src/domain/user/account.ts";
import type { Registry } from "../registry/harness.ts";
import { basicAuthorization } from "../support/registry-client.ts";

const request = { ip: undefined, userAgent: "test" };

/** A caller with all rights of a user's session. */
export async function callerOf(registry: Registry, username: string): Promise<Caller> {
  const account = await findAccount(registry.app.db, username);
  const principal = account && toPrincipal(registry.app.config, account);
  if (!principal) throw new Error(`no user "${username}"`);
  return { principal, grants: undefined, expired: false, authKind: "session", credential: { kind: "session" } };
}

/** An organization whose only admin is `admin`. */
export async function makeOrganization(registry: Registry, name: string, admin: string): Promise<void> {
  await createOrganization(registry.app, await callerOf(registry, admin), { name, email: undefined, request });
}

export async function makeApplication(
  registry: Registry,
  organization: string,
  admin: string,
  redirectUri: string,
): Promise<Application> {
  const account = await findAccount(registry.app.db, organization);
  if (!account) throw new Error(`no organization "${organization}"`);
  const change = { organization: account, caller: await callerOf(registry, admin), request };
  const fields = { name: "deployer", redirectUri, applicationUri: "", description: "", avatarEmail: undefined };
  return createApplication(registry.app, change, fields);
}

/** An OAuth token of a user with these scopes, made where the pages would make it. */
export async function giveToken(
  registry: Registry,
  username: string,
  clientId: string,
  scopes: readonly OauthScope[] = OAUTH_SCOPES,
  lifeSeconds = 3600,
): Promise<{ token: string; uuid: string }> {
  const application = await findApplication(registry.app, clientId);
  if (!application) throw new Error(`no application "${clientId}"`);
  const accountId = await registry.accountId(username);
  const input = { applicationId: application.id, accountId, scopes: new Set(scopes), nowMs: Date.now(), lifeSeconds };
  return registry.app.db.tx((tx) => insertToken(tx, input));
}

/** The newest log entry of a kind. */
export async function lastLog(
  registry: Registry,
  kind: string,
): Promise<{ metadata: Record<string, unknown>; performerId: number | null; namespaceId: number | null }> {
  const [row] = await registry.app.db.sql<{
    metadata: string;
    performer_id: number | null;
    namespace_id: number | null;
  }>`/* test.last_log */
    select metadata, performer_id, namespace_id from action_log where kind = ${kind} order by id desc limit 1`;
  if (!row) throw new Error(`nothing logged of kind "${kind}"`);
  return { metadata: JSON.parse(row.metadata), performerId: row.performer_id, namespaceId: row.namespace_id };
}

/** What /v2/auth grants on a repository; undefined when it refuses the log-in. */
export async function grantedBy(
  registry: Registry,
  username: string,
  secret: string,
  repository: string,
  actions = "pull,push,delete",
): Promise<{ actions: string[]; token: string; expiresInSeconds: number } | undefined> {
  const scope = encodeURIComponent(`repository:${repository}:${actions}`);
  const response = await fetch(`${registry.berth.url}/v2/auth?scope=${scope}`, {
    headers: { authorization: basicAuthorization(username, secret) },
  });
  if (response.status === 401) {
    await response.body?.cancel();
    return undefined;
  }
  if (response.status !== 200) throw new Error(`/v2/auth: ${response.status} ${await response.text()}`);
  const { token, expires_in } = (await response.json()) as { token: string; expires_in: number };
  const payload = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
  return { actions: payload.access[0].actions, token, expiresInSeconds: expires_in };
}

/** Status of a manifest GET with this Authorization header. */
export async function pullStatus(registry: Registry, authorization: string, repository: string): Promise<number> {
  const response = await fetch(`${registry.berth.url}/v2/${repository}/manifests/v1`, {
    headers: { authorization, accept: "*/*" },
  });
  await response.body?.cancel();
  return response.status;
}
