/**
 * Robots: accounts of a namespace that log in with a token. Making, deleting and giving them new tokens; showing them is
 * `list.ts`. Source: quay-api reference, section 6.
 */

import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { durationMs } from "../../config/units.ts";
import type { Db, Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import { findRobotName, parseRobotShortName } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { endCredentials, endMemberships } from "../namespace/end-rights.ts";
import { lockNamespace } from "../namespace/lock.ts";
import { type Account, accountKey, findAccount, insertAccount } from "../user/account.ts";

/** Source: quay-behaviour reference, section 1. */
const TOKEN_CHARS = 64;
/** Source: quay-api reference, section 6. */
export const ROBOT_DESCRIPTION_CHARS_MAX = 255;

/** The user or organization that robots belong to. */
export type RobotOwner = Pick<Account, "id" | "username" | "kind">;

/**
 * Makes a robot in a namespace and gives its full name and token. The token is kept encrypted so that its owner can be
 * shown it again. Throws `name_invalid` and `invalid_request` in Quay's words.
 */
export async function createRobot(
  app: Pick<App, "secrets">,
  tx: Tx,
  owner: RobotOwner,
  shortName: string,
  facts: { tagExpirationSeconds: number; nowMs: number; description?: string },
): Promise<{ id: number; username: string; token: string }> {
  if (owner.kind === "robot") {
    throw new RegistryError("invalid_request", { message: `"${owner.username}" is a robot and cannot have robots` });
  }
  const username = `${owner.username}+${parseRobotShortName(shortName)}`;
  const token = randomText(TOKEN_CHARS);
  await lockNamespace(tx, { id: owner.id, name: owner.username });
  const id = await insertAccount(tx, {
    kind: "robot",
    username,
    ownerId: owner.id,
    tokenEncrypted: app.secrets.seal(token),
    ...facts,
  });
  return { id, username, token };
}

interface Change {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

export interface NewRobot {
  shortName: string;
  /** At most ROBOT_DESCRIPTION_CHARS_MAX. */
  description?: string | undefined;
  /** Whatever the owner's tools want to remember; at most as large as a request. */
  metadata?: Record<string, unknown> | undefined;
}

/**
 * Makes a robot by the API. Throws `invalid_request`: `Existing robot with name: …`, `name_invalid`, and `invalid_request`
 * where ROBOTS_DISALLOW leaves no room for it.
 */
export async function addRobot(
  app: Pick<App, "config" | "db" | "clock" | "secrets">,
  owner: RobotOwner,
  input: NewRobot,
  { caller, request }: Change,
): Promise<void> {
  const shortName = parseRobotShortName(input.shortName);
  const name = `${owner.username}+${shortName}`;
  requireAllowed(app.config, name);
  const nowMs = app.clock.nowMs();
  const description = input.description ?? "";
  const metadata = input.metadata ?? {};
  await app.db.tx(async (tx) => {
    await requireLivingOwner(tx, owner);
    if (await findAccount(tx, name)) {
      throw new RegistryError("invalid_request", { message: `Existing robot with name: ${name}` });
    }
    const tagExpirationSeconds = durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000;
    const { id } = await createRobot(app, tx, owner, shortName, { tagExpirationSeconds, nowMs, description });
    await tx.sql`/* robot.set_metadata */ update account set metadata = ${JSON.stringify(metadata)} where id = ${id}`;
    await logAction(tx, {
      kind: "create_robot",
      caller,
      namespaceId: owner.id,
      request,
      nowMs,
      metadata: { robot: shortName, description, unstructured_metadata: metadata },
    });
  });
}

/** ROBOTS_DISALLOW: no robots but those of ROBOTS_WHITELIST, which names them in full. */
function requireAllowed(config: Pick<Config, "ROBOTS_DISALLOW" | "ROBOTS_WHITELIST">, name: string): void {
  if (!config.ROBOTS_DISALLOW || config.ROBOTS_WHITELIST.includes(name)) return;
  throw new RegistryError("invalid_request", {
    message: `Robot accounts are turned off by ROBOTS_DISALLOW, and "${name}" is not in ROBOTS_WHITELIST`,
  });
}

/** A namespace that is being deleted at the same moment must not keep a robot. */
async function requireLivingOwner(tx: Tx, owner: RobotOwner): Promise<void> {
  const rows = await tx.sql`/* robot.lock_owner */
    select id from account where id = ${owner.id} and deleted_ms is null ${tx.dialect.forUpdate}`;
  if (rows.length === 0) throw new RegistryError("not_found");
}

/** Gives a robot another token; log-ins with the old one fail at once, on every instance. Throws `invalid_request`. */
export async function regenerateRobotToken(
  app: Pick<App, "db" | "clock" | "secrets">,
  owner: RobotOwner,
  shortName: string,
  { caller, request }: Change,
): Promise<void> {
  await app.db.tx(async (tx) => {
    const robot = await getRobotAccount(tx, owner, shortName);
    const sealed = app.secrets.seal(randomText(TOKEN_CHARS));
    await tx.sql`/* robot.set_token */ 
      update account set token_encrypted = ${sealed} where id = ${robot.id} and deleted_ms is null`;
    tx.changed(accountKey(robot.id));
    const metadata = { robot: shortName };
    const nowMs = app.clock.nowMs();
    await logAction(tx, { kind: "regenerate_robot_token", caller, namespaceId: owner.id, request, nowMs, metadata });
  });
}

/**
 * Deletes a robot: its name is free, its token and rights end at once. The row stays, without a name, for uploads and log
 * entries that point at it. Throws `invalid_request` when there is none.
 */
export async function deleteRobot(
  app: Pick<App, "db" | "clock">,
  owner: RobotOwner,
  shortName: string,
  { caller, request }: Change,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const robot = await getRobotAccount(tx, owner, shortName);
    const retired = await tx.sql`/* robot.retire */
      update account
      set username = '~' || uuid, token_encrypted = null, enabled = false, deleted_ms = ${nowMs}
      where id = ${robot.id} and deleted_ms is null returning id`;
    if (retired.length === 0) throw unknownRobot();
    await tx.sql`/* robot.end_federations */ delete from robot_federation where robot_id = ${robot.id}`;
    await endMemberships(tx, robot.id);
    await endCredentials(tx, robot.id);
    tx.changed(accountKey(robot.id));
    const metadata = { robot: shortName };
    await logAction(tx, { kind: "delete_robot", caller, namespaceId: owner.id, request, nowMs, metadata });
  });
}

/** The robot of this namespace, locked by nobody. Throws `invalid_request`, as Quay does for robots that are not there. */
export async function getRobotAccount(db: Db, owner: RobotOwner, shortName: string): Promise<Account> {
  const name = `${owner.username}+${shortName}`;
  const account = findRobotName(name) ? await findAccount(db, name) : undefined;
  if (account?.kind === "robot" && account.ownerId === owner.id) return account;
  throw unknownRobot();
}

function unknownRobot(): RegistryError {
  return new RegistryError("invalid_request", { message: "Could not find robot with specified username" });
}
