/** An organization's own facts: reading and changing them, and deleting it. Its teams and members have folders of their own. */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import { parseEmail } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { type ActionMetadata, logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { noteNewWindow } from "../gc/due.ts";
import { deleteNamespace } from "../namespace/delete-namespace.ts";
import { requireTagExpiration } from "../namespace/tag-expiration.ts";
import { type Account, accountKey } from "../user/account.ts";
import { lockOrganization } from "./admins.ts";
import { storedEmail } from "./create-organization.ts";

export interface OrganizationDetails {
  readonly id: number;
  readonly name: string;
  readonly email: string | undefined;
  /** Whether invoices are mailed: kept for Quay's clients, nothing is ever billed. */
  readonly invoiceEmail: boolean;
  readonly invoiceEmailAddress: string | undefined;
  /** The time machine's window. */
  readonly tagExpirationSeconds: number;
}

/** Throws `not_found` when the organization is gone. */
export async function getOrganization(db: Db, organizationId: number): Promise<OrganizationDetails> {
  const [row] = await db.sql<{
    username: string;
    email: string | null;
    invoice_email: unknown;
    invoice_email_address: string | null;
    tag_expiration_s: number;
  }>`/* organization.get */
    select username, coalesce(email, shared_email) as email, invoice_email, invoice_email_address, tag_expiration_s
    from account where id = ${organizationId} and kind = 'organization' and deleted_ms is null`;
  if (!row) throw new RegistryError("not_found");
  return {
    id: organizationId,
    name: row.username,
    email: row.email ?? undefined,
    invoiceEmail: toBoolean(row.invoice_email),
    invoiceEmailAddress: row.invoice_email_address ?? undefined,
    tagExpirationSeconds: toNumber(row.tag_expiration_s),
  };
}

/** What is left out stays as it is. */
export interface OrganizationChanges {
  email?: string | undefined;
  invoiceEmail?: boolean | undefined;
  /** Null takes the address away. */
  invoiceEmailAddress?: string | null | undefined;
  tagExpirationSeconds?: number | undefined;
}

interface Change {
  caller: Caller;
  request: RequestOrigin;
}

/** Throws `invalid_request`: `E-mail address already used`, `Invalid tag expiration option`, `Invalid email address: …`. */
export async function updateOrganization(
  app: Pick<App, "config" | "db" | "clock">,
  organizationId: number,
  changes: OrganizationChanges,
  { caller, request }: Change,
): Promise<OrganizationDetails> {
  return app.db.tx(async (tx) => {
    await lockOrganization(tx, organizationId);
    const old = await getOrganization(tx, organizationId);
    const log = (kind: ActionKind, metadata: ActionMetadata) =>
      logAction(tx, { kind, caller, namespaceId: organizationId, request, nowMs: app.clock.nowMs(), metadata });
    if (changes.email !== undefined && changes.email !== old.email) {
      await setEmail(app, tx, organizationId, changes.email);
      await log("org_change_email", { email: changes.email, old_email: old.email ?? null });
    }
    if (changes.invoiceEmail !== undefined && changes.invoiceEmail !== old.invoiceEmail) {
      await tx.sql`/* organization.set_invoicing */
        update account set invoice_email = ${changes.invoiceEmail} where id = ${organizationId}`;
      await log("org_change_invoicing", { invoice_email: changes.invoiceEmail });
    }
    const address = changes.invoiceEmailAddress || null;
    if (changes.invoiceEmailAddress !== undefined && address !== (old.invoiceEmailAddress ?? null)) {
      await tx.sql`/* organization.set_invoice_address */
        update account set invoice_email_address = ${address === null ? null : parseEmail(address)}
        where id = ${organizationId}`;
      await log("org_change_invoicing", { invoice_email_address: address });
    }
    const seconds = changes.tagExpirationSeconds;
    if (seconds !== undefined && seconds !== old.tagExpirationSeconds) {
      requireTagExpiration(app.config, seconds, old.tagExpirationSeconds);
      await tx.sql`/* organization.set_tag_expiration */
        update account set tag_expiration_s = ${seconds} where id = ${organizationId}`;
      await noteNewWindow(tx, organizationId);
      await log("org_change_tag_expiration", { tag_expiration: seconds });
    }
    tx.changed(accountKey(organizationId));
    return getOrganization(tx, organizationId);
  });
}

async function setEmail(app: Pick<App, "config">, tx: Tx, organizationId: number, text: string): Promise<void> {
  const options = { exceptId: organizationId, takenText: "E-mail address already used" };
  const { email, sharedEmail } = await storedEmail(app.config, tx, parseEmail(text), options);
  try {
    await tx.sql`/* organization.set_email */
      update account set email = ${email ?? null}, shared_email = ${sharedEmail ?? null} where id = ${organizationId}`;
  } catch (error) {
    // Somebody took the address since we looked.
    if (!isUniqueViolation(error)) throw error;
    throw new RegistryError("invalid_request", { message: options.takenText, cause: error });
  }
}

/** Its name is free and nothing of it answers any more when this resolves; what it stored is collected later. */
export async function deleteOrganization(
  app: Pick<App, "db" | "clock">,
  organization: Pick<Account, "id" | "username">,
  { caller, request }: Change,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  const { id, username } = organization;
  await app.db.tx(async (tx) => {
    await lockOrganization(tx, id);
    await deleteNamespace(tx, { id, kind: "organization", username });
    const metadata = { namespace: username };
    await logAction(tx, { kind: "org_delete", caller, namespaceId: id, request, nowMs, metadata });
  });
}
