/** E-mail addresses of accounts: what one may be, and whose it is already. */

import { isPlainAddress } from "../../clients/smtp.ts";
import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { parseEmail } from "../../oci/names.ts";
import { showValue } from "../../oci/quote.ts";

/**
 * An address that mail can be sent to, and to nobody else: Quay's rule, and one plain address besides. Throws
 * `invalid_request`: `Invalid email address: <e>`.
 */
export function parseUserEmail(text: string): string {
  const email = parseEmail(text);
  if (isPlainAddress(email)) return email;
  throw new RegistryError("invalid_request", { message: `Invalid email address: ${showValue(text)}` });
}

/** Whose address it is: a living user or organization; undefined when it is free. */
export async function findEmailOwner(
  db: Db,
  email: string,
): Promise<{ id: number; kind: "user" | "organization"; username: string; enabled: boolean } | undefined> {
  const [row] = await db.sql<{
    id: number;
    kind: "user" | "organization";
    username: string;
    enabled: unknown;
  }>`/* account.email_owner */
    select id, kind, username, enabled from account where email = ${email} and deleted_ms is null`;
  return row && { id: toNumber(row.id), kind: row.kind, username: row.username, enabled: toBoolean(row.enabled) };
}
