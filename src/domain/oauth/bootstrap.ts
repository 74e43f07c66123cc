/**
 * The bootstrap token (FEATURE_PROGRAMMATIC_BOOTSTRAP): an OAuth token of BOOTSTRAP_TOKEN_OWNER that Berth puts into a
 * file when it starts, so that automation can begin without a browser, and that its holder renews before it expires.
 * Source: quay-api reference, section 20 (3.18), quay-config, section 15; the wording is Berth's own.
 */

import { readFileSync } from "node:fs";
import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { writePrivateFile } from "../../lib/private-file.ts";
import { isSameSecret } from "../../lib/same-secret.ts";
import { errorFields } from "../../observe/logger.ts";
import { ANONYMOUS, type Caller, OAUTH_SCOPES, type OauthScope } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { type Account, findAccount } from "../user/account.ts";
import type { BearerApp } from "./bearer.ts";
import { parseRequestedScopes } from "./scopes.ts";
import { deleteToken, insertToken, tokenMetadata } from "./token.ts";
import { hashToken, splitToken } from "./token-text.ts";

/** No generated client_id has this character, so nobody else's application is taken for this one. */
const CLIENT_ID = "$bootstrap";
const NAME = "bootstrap";

export interface BootstrapToken {
  readonly token: string;
  readonly scopes: ReadonlySet<OauthScope>;
  readonly lifeSeconds: number;
}

/**
 * Makes sure that the file of BOOTSTRAP_TOKEN_PATH holds a living token. A config that cannot be followed is a line in the
 * log: the registry serves without it.
 */
export async function ensureBootstrapToken(app: BearerApp): Promise<void> {
  const { config } = app;
  const path = config.BOOTSTRAP_TOKEN_PATH;
  if (!config.FEATURE_PROGRAMMATIC_BOOTSTRAP || path === null) return;
  try {
    if (await isLiving(app, app.db, path)) return;
    const owner = await findOwner(app);
    const made = await app.db.tx(async (tx) => {
      // Instances that start together and share the file take turns: the second finds what the first one made.
      await tx.sql`/* bootstrap.lock */
        insert into setting (key, value) values ('bootstrap_token', 'made')
        on conflict (key) do update set value = excluded.value`;
      if (await isLiving(app, tx, path)) return undefined;
      const token = await insertFor(app, tx, owner, ANONYMOUS, { ip: undefined, userAgent: undefined });
      // Before others take their turn. Should this not be committed, it is no token, and the next start makes another.
      writePrivateFile(path, token.token);
      return token;
    });
    if (!made) return;
    // The first line of the log is where we listen, and that comes after this.
    app.log.debug("wrote a bootstrap token", { path, owner: owner.username, expiresInSeconds: made.lifeSeconds });
  } catch (error) {
    app.log.error("cannot make the bootstrap token", { path, ...errorFields(error) });
  }
}

/**
 * Replaces the calling bootstrap token by a new one, which is put into the file too. Throws `denied` for any other
 * credential.
 */
export async function renewBootstrapToken(
  app: BearerApp,
  caller: Caller,
  request: RequestOrigin,
): Promise<BootstrapToken> {
  const { credential, principal } = caller;
  const owner = await findOwner(app);
  const isBootstrap = credential?.kind === "oauth" && credential.clientId === CLIENT_ID;
  if (!isBootstrap || principal?.accountId !== owner.id) {
    const message = "Only the bootstrap token itself can be renewed here";
    throw new RegistryError("denied", { message, detail: { decision: "no-role" } });
  }
  const made = await app.db.tx(async (tx) => {
    if (!(await isTitled(tx, credential.uuid))) throw new RegistryError("denied", { detail: { decision: "no-role" } });
    await deleteToken(tx, credential.uuid);
    return insertFor(app, tx, owner, caller, request);
  });
  const path = app.config.BOOTSTRAP_TOKEN_PATH;
  if (path !== null) writePrivateFile(path, made.token);
  return made;
}

/** True when the file holds a bootstrap token that has not expired. */
async function isLiving(app: Pick<App, "clock">, db: Db, path: string): Promise<boolean> {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch {
    return false;
  }
  const parts = splitToken(text);
  if (!parts) return false;
  const [row] = await db.sql<{ token_hash: string; expires_ms: number }>`/* bootstrap.living */
    select t.token_hash, t.expires_ms from oauth_token t join oauth_application a on a.id = t.application_id
    where t.token_name = ${parts.name} and a.client_id = ${CLIENT_ID}`;
  return !!row && isSameSecret(row.token_hash, hashToken(parts.secret)) && toNumber(row.expires_ms) > app.clock.nowMs();
}

async function findOwner(app: BearerApp): Promise<Account> {
  const username = app.config.BOOTSTRAP_TOKEN_OWNER ?? "";
  const owner = username === "" ? undefined : await findAccount(app.db, username);
  if (owner?.kind === "user") return owner;
  throw new RegistryError("invalid_request", {
    message: `BOOTSTRAP_TOKEN_OWNER must name a user of this registry, and there is no user "${username}"`,
  });
}

async function insertFor(
  app: BearerApp,
  tx: Tx,
  owner: Account,
  caller: Caller,
  request: RequestOrigin,
): Promise<BootstrapToken> {
  const { BOOTSTRAP_TOKEN_SCOPE: scopeText, BOOTSTRAP_TOKEN_EXPIRATION: lifeSeconds } = app.config;
  const scopes = scopeText === undefined ? new Set(OAUTH_SCOPES) : parseRequestedScopes(scopeText);
  const nowMs = app.clock.nowMs();
  await tx.sql`/* bootstrap.application */
    insert into oauth_application (client_id, organization_id, name, created_ms)
    values (${CLIENT_ID}, ${owner.id}, ${NAME}, ${nowMs})
    on conflict (client_id) do update set organization_id = excluded.organization_id`;
  const [application] = await tx.sql<{ id: number }>`/* bootstrap.application_id */
    select id from oauth_application where client_id = ${CLIENT_ID}`;
  const applicationId = toNumber(application?.id);
  const { uuid, token } = await insertToken(tx, {
    applicationId,
    accountId: owner.id,
    scopes,
    title: NAME,
    nowMs,
    lifeSeconds,
  });
  await logAction(tx, {
    kind: "create_oauth_api_token",
    caller,
    namespaceId: owner.id,
    request,
    nowMs,
    metadata: { ...tokenMetadata(uuid, { name: NAME, clientId: CLIENT_ID }, scopes), title: NAME },
  });
  return { token, scopes, lifeSeconds };
}

/** Made here, and not by somebody's consent to the application. */
async function isTitled(tx: Tx, uuid: string): Promise<boolean> {
  const rows = await tx.sql`/* bootstrap.is_titled */
    select 1 as one from oauth_token where uuid = ${uuid} and title = ${NAME} ${tx.dialect.forUpdate}`;
  return rows.length > 0;
}
