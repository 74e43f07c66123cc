/** Robots: accounts of a namespace that log in with a token. Their management by API comes with /api/v1. */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import { parseRobotShortName } from "../../oci/names.ts";
import { type Account, insertAccount } from "../user/account.ts";

/** Source: quay-behaviour reference, section 1. */
const TOKEN_CHARS = 64;

/**
 * Makes a robot in a namespace and gives its full name and token. The token is kept encrypted so that its owner can be
 * shown it again. Throws `name_invalid` and `invalid_request` in Quay's words.
 */
export async function createRobot(
  app: Pick<App, "secrets">,
  tx: Tx,
  owner: Account,
  shortName: string,
  facts: { tagExpirationSeconds: number; nowMs: number; description?: string },
): Promise<{ id: number; username: string; token: string }> {
  if (owner.kind === "robot") {
    throw new RegistryError("invalid_request", { message: `"${owner.username}" is a robot and cannot have robots` });
  }
  const username = `${owner.username}+${parseRobotShortName(shortName)}`;
  const token = randomText(TOKEN_CHARS);
  const id = await insertAccount(tx, {
    kind: "robot",
    username,
    ownerId: owner.id,
    tokenEncrypted: app.secrets.seal(token),
    ...facts,
  });
  return { id, username, token };
}
