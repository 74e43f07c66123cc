/**
 * The first user: by `POST /api/v1/user/initialize` as in Quay, or made by the embedded default at its first start. Both
 * work only while no user exists.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import { parsePassword } from "../../oci/names.ts";
import { createUser, hasNoUsers } from "./account.ts";

type FirstUserApp = Pick<App, "config" | "db" | "clock" | "passwords" | "secrets">;

export interface FirstUser {
  username: string;
  password: string;
  email?: string | undefined;
  /** Also make an OAuth token with every scope. */
  accessToken: boolean;
}

/** Source: quay-api reference, section 17: 2.5 hours, application "automation", every scope. */
const TOKEN_LIFE_MS = 9000 * 1000;
const TOKEN_CHARS = 40;
const TOKEN_NAME_CHARS = 20;
const ALL_SCOPES = "repo:read repo:write repo:admin repo:create user:read user:admin org:admin super:user";

/** Makes the first user; `onFirst` is called when there is none, before it is made. Throws `invalid_request` with Quay's texts. */
export async function initializeFirstUser(
  app: FirstUserApp,
  user: FirstUser,
  onFirst?: () => void,
): Promise<{ username: string; accessToken: string | undefined }> {
  const passwordHash = await app.passwords.hash(checkFirstPassword(user.password));
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    await lockUsers(tx);
    if (!(await hasNoUsers(tx))) {
      throw new RegistryError("invalid_request", { message: "Cannot initialize user in a non-empty database" });
    }
    onFirst?.();
    const id = await createFirst(app, tx, user, passwordHash, nowMs);
    const accessToken = user.accessToken ? await insertAutomationToken(app, tx, id, user.username, nowMs) : undefined;
    return { username: user.username, accessToken };
  });
}

/**
 * The embedded default's `admin`, unless there are users already. Without a password one is made and given to `keep`
 * before the user exists; of instances that start together, only by the one that makes it.
 */
export async function ensureAdmin(
  app: FirstUserApp,
  username: string,
  password: string | undefined,
  keep: (password: string) => void,
): Promise<{ password: string; generated: boolean } | undefined> {
  if (!(await hasNoUsers(app.db))) return undefined;
  const chosen = password ?? randomText(24);
  const keepOwn = password === undefined ? () => keep(chosen) : undefined;
  try {
    await initializeFirstUser(app, { username, password: chosen, accessToken: false }, keepOwn);
  } catch (error) {
    // Another instance was faster.
    if (error instanceof RegistryError && !(await hasNoUsers(app.db))) return undefined;
    throw error;
  }
  return { password: chosen, generated: password === undefined };
}

/** Two first users at once: the second waits for the first and finds it. */
async function lockUsers(tx: Tx): Promise<void> {
  await tx.sql`/* first_user.lock */
    insert into setting (key, value) values ('first_user', 'initialized') on conflict (key) do update set value = excluded.value`;
}

function checkFirstPassword(password: string): string {
  try {
    return parsePassword(password);
  } catch (error) {
    throw failed(error);
  }
}

async function createFirst(
  app: FirstUserApp,
  tx: Tx,
  user: FirstUser,
  passwordHash: string,
  nowMs: number,
): Promise<number> {
  const tagExpirationSeconds = durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000;
  try {
    return await createUser(
      tx,
      { username: user.username, email: user.email, passwordHash },
      { tagExpirationSeconds, nowMs },
    );
  } catch (error) {
    throw failed(error);
  }
}

function failed(error: unknown): unknown {
  if (!(error instanceof RegistryError)) return error;
  return new RegistryError("invalid_request", { message: `Failed to initialize user: ${error.message}`, cause: error });
}

/** The application's client_id is the user's name, as Quay has it. */
async function insertAutomationToken(
  app: FirstUserApp,
  tx: Tx,
  accountId: number,
  username: string,
  nowMs: number,
): Promise<string> {
  const token = randomText(TOKEN_CHARS);
  const [application] = await tx.sql<{ id: number }>`/* first_user.application */
    insert into oauth_application (client_id, client_secret_encrypted, organization_id, name, created_ms)
    values (${username}, ${app.secrets.seal(randomText(40))}, ${accountId}, 'automation', ${nowMs}) returning id`;
  const hash = new Bun.CryptoHasher("sha256").update(token.slice(TOKEN_NAME_CHARS)).digest("hex");
  await tx.sql`/* first_user.token */
    insert into oauth_token (uuid, application_id, account_id, token_name, token_hash, scope, created_ms, expires_ms)
    values (${crypto.randomUUID()}, ${toNumber(application?.id)}, ${accountId}, ${token.slice(0, TOKEN_NAME_CHARS)},
            ${hash}, ${ALL_SCOPES}, ${nowMs}, ${nowMs + TOKEN_LIFE_MS})`;
  return token;
}
