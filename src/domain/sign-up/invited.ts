/**
 * Team invitations as they matter for sign-up: one that went to the account's own address proves that it is read, and where
 * accounts are by invitation only, it is what lets somebody make one. Answering invitations is domain/team.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Account } from "../user/account.ts";
import { setVerified } from "./confirmation.ts";

export interface Invited {
  /** The user it is for; undefined when it went to an address. */
  readonly accountId: number | undefined;
  readonly email: string | undefined;
}

const CODE_CHARS_MAX = 255;

/** Whom the invitation with this code is for, undefined when there is none. */
export async function findInvited(db: Db, code: string): Promise<Invited | undefined> {
  if (code.length > CODE_CHARS_MAX) return undefined;
  const [row] = await db.sql<{ account_id: number | null; email: string | null }>`/* invite.whom */
    select account_id, email from team_invite where code_hash = ${hashOf(code)}`;
  return (
    row && {
      accountId: row.account_id === null ? undefined : toNumber(row.account_id),
      email: row.email ?? undefined,
    }
  );
}

export interface Invitation {
  readonly organization: string;
  readonly team: string;
  readonly inviter: string;
}

/** What the invitation with this code is to, undefined when there is none. */
export async function findInvitation(db: Db, code: string): Promise<Invitation | undefined> {
  if (code.length > CODE_CHARS_MAX) return undefined;
  const [row] = await db.sql<Invitation>`/* invite.to_what */
    select o.username as organization, t.name as team, a.username as inviter
    from team_invite i join team t on t.id = i.team_id join account o on o.id = t.organization_id
    join account a on a.id = i.inviter_id
    where i.code_hash = ${hashOf(code)} and o.deleted_ms is null`;
  return row;
}

function hashOf(code: string): string {
  return new Bun.CryptoHasher("sha256").update(code).digest("hex");
}

/** True when the code came by a mail to this very address. */
export function provesAddress(invited: Invited | undefined, account: Pick<Account, "id" | "email">): boolean {
  if (invited === undefined || account.email === undefined) return false;
  if (invited.accountId !== undefined) return invited.accountId === account.id;
  return invited.email === account.email;
}

/** Marks the account's address as confirmed when an invitation proves it; true when one did. */
export async function confirmByInvite(
  app: Pick<App, "db">,
  account: Pick<Account, "id" | "email">,
  code: string | undefined,
): Promise<boolean> {
  if (code === undefined || code === "") return false;
  return app.db.tx(async (tx) => {
    if (!provesAddress(await findInvited(tx, code), account)) return false;
    await setVerified(tx, account.id);
    return true;
  });
}
