/**
 * A user changes its own account: password, address, name, time machine, profile. Whatever is asked for in one request is
 * done in one transaction, with a log entry for each change; mails follow.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { parsePassword } from "../../oci/names.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { type ActionMetadata, logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { noteNewWindow } from "../gc/due.ts";
import { notifyPasswordChanged, sendEmailChangeConfirmation } from "../mail/mail.ts";
import { renameNamespace } from "../namespace/rename.ts";
import { requireTagExpiration } from "../namespace/tag-expiration.ts";
import { endCodes } from "../recovery/email-code.ts";
import { endSessions, type Session } from "../session/session.ts";
import { changeEmail, emailTaken, issueConfirmation } from "../sign-up/confirmation.ts";
import { accountKey, setPasswordHash } from "./account.ts";
import { findProfileById, type Profile, type Prompt } from "./profile.ts";
import { findEmailOwner, parseUserEmail } from "./user-email.ts";

type EditApp = Pick<App, "config" | "db" | "clock" | "passwords" | "mailer">;

/** What is left out stays as it is; null takes a text away. */
export interface UserChanges {
  password?: string | undefined;
  email?: string | undefined;
  username?: string | undefined;
  tagExpirationSeconds?: number | undefined;
  invoiceEmail?: boolean | undefined;
  invoiceEmailAddress?: string | null | undefined;
  givenName?: string | null | undefined;
  familyName?: string | null | undefined;
  company?: string | null | undefined;
  location?: string | null | undefined;
}

export interface EditUser {
  principal: Principal;
  /** The one session that outlives a change of the password. */
  session: Session | undefined;
  caller: Caller;
  request: RequestOrigin;
  changes: UserChanges;
}

/**
 * Changes the caller's account and gives its new facts. With mail on, another address holds once it is confirmed. Throws
 * `invalid_request` in Quay's words for what cannot be and then changes nothing, `mail_failed` when all is done but the
 * confirmation could not be sent. Source: quay-api reference, sections 2 and 2.2.
 */
export async function editUser(app: EditApp, input: EditUser): Promise<Profile> {
  const { principal, changes } = input;
  const passwordHash =
    changes.password === undefined ? undefined : await app.passwords.hash(parsePassword(changes.password));
  const nowMs = app.clock.nowMs();
  const { before, after, code } = await app.db.tx(async (tx) => {
    const before = await getLocked(tx, principal.accountId);
    const edit: Edit = { app, tx, input, before, nowMs, answered: [] };
    // Texts first: what is wrong with one is said before anything is done.
    await editProfile(edit);
    await editNamespace(edit);
    if (passwordHash !== undefined) await editPassword(edit, passwordHash);
    const code = await editEmail(edit);
    await editName(edit);
    await removePrompts(edit);
    tx.changed(accountKey(before.id));
    return { before, after: await getLocked(tx, before.id), code };
  });
  const { username, email } = after;
  if (passwordHash !== undefined && email !== undefined) notifyPasswordChanged(app, { to: email, username });
  if (code !== undefined && changes.email !== undefined) {
    await sendEmailChangeConfirmation(app, { to: changes.email, username: before.username, code });
  }
  return after;
}

interface Edit {
  readonly app: EditApp;
  readonly tx: Tx;
  readonly input: EditUser;
  readonly before: Profile;
  readonly nowMs: number;
  /** Prompts that this request answers. */
  readonly answered: Prompt[];
}

async function getLocked(tx: Tx, id: number): Promise<Profile> {
  const profile = await findProfileById(tx, id, true);
  if (!profile) throw new RegistryError("not_found");
  return profile;
}

async function log({ tx, input, before, nowMs }: Edit, kind: ActionKind, metadata: ActionMetadata): Promise<void> {
  const { caller, request } = input;
  await logAction(tx, { kind, caller, namespaceId: before.id, request, nowMs, metadata });
}

/** Other sessions and every unused recovery code end with the old password. */
async function editPassword(edit: Edit, passwordHash: string): Promise<void> {
  const { tx, before, input } = edit;
  await setPasswordHash(tx, before.id, passwordHash);
  await endSessions(tx, before.id, input.session);
  await endCodes(tx, before.id, "recovery");
  await log(edit, "account_change_password", {});
}

/** The code to confirm the address with, when it takes one. */
async function editEmail({ app, tx, input, before, nowMs }: Edit): Promise<string | undefined> {
  const { email: text } = input.changes;
  if (text === undefined || text === before.email) return undefined;
  const email = parseUserEmail(text);
  if (await findEmailOwner(tx, email)) throw emailTaken();
  if (app.mailer.isOn) return issueConfirmation(tx, { accountId: before.id, newEmail: email, nowMs });
  await changeEmail(tx, { account: before, email, caller: input.caller, request: input.request, nowMs });
  return undefined;
}

/** A name that an outside log-in made up may be changed once, others with FEATURE_USER_RENAME. */
async function editName({ app, tx, input, before, nowMs, answered }: Edit): Promise<void> {
  const { username } = input.changes;
  if (username === undefined) return;
  const isAsked = before.prompts.includes("confirm_username");
  if (username !== before.username) {
    const { FEATURE_USER_RENAME, FEATURE_USERNAME_CONFIRMATION } = app.config;
    if (!FEATURE_USER_RENAME && !(isAsked && FEATURE_USERNAME_CONFIRMATION)) {
      throw new RegistryError("invalid_request", {
        message: "User names cannot be changed on this registry: FEATURE_USER_RENAME is off",
      });
    }
    const namespace = { id: before.id, kind: "user", username: before.username } as const;
    const { caller, request } = input;
    await renameNamespace(app, tx, { namespace, newName: username, caller, request, nowMs });
  }
  answered.push("confirm_username");
}

async function editNamespace(edit: Edit): Promise<void> {
  const { app, tx, before } = edit;
  const { tagExpirationSeconds, invoiceEmail, invoiceEmailAddress } = edit.input.changes;
  if (tagExpirationSeconds !== undefined && tagExpirationSeconds !== before.tagExpirationSeconds) {
    requireTagExpiration(app.config, tagExpirationSeconds, before.tagExpirationSeconds);
    await tx.sql`/* user.set_tag_expiration */
      update account set tag_expiration_s = ${tagExpirationSeconds} where id = ${before.id}`;
    await noteNewWindow(tx, before.id);
    await log(edit, "user_change_tag_expiration", { tag_expiration: tagExpirationSeconds });
  }
  if (invoiceEmail !== undefined && invoiceEmail !== before.invoiceEmail) {
    await tx.sql`/* user.set_invoicing */
      update account set invoice_email = ${invoiceEmail} where id = ${before.id}`;
    await log(edit, "user_change_invoicing", { invoice_email: invoiceEmail });
  }
  const address = invoiceEmailAddress || null;
  if (invoiceEmailAddress !== undefined && address !== (before.invoiceEmailAddress ?? null)) {
    await tx.sql`/* user.set_invoice_address */
      update account set invoice_email_address = ${address === null ? null : parseUserEmail(address)}
      where id = ${before.id}`;
    await log(edit, "user_change_invoicing", { invoice_email_address: address });
  }
}

const TEXT_CHARS_MAX = 255;

/** FEATURE_USER_METADATA. Without it Quay takes the fields and forgets them, so do we. */
async function editProfile(edit: Edit): Promise<void> {
  const { app, tx, before } = edit;
  const { givenName, familyName, company, location } = edit.input.changes;
  const given = { given_name: givenName, family_name: familyName, company, location };
  const isAsked = Object.values(given).some((text) => text !== undefined);
  if (!isAsked || !app.config.FEATURE_USER_METADATA) return;
  for (const [field, text] of Object.entries(given)) requireLine(field, text);
  const kept = (text: string | null | undefined, old: string | undefined) =>
    text === undefined ? (old ?? null) : text;
  await tx.sql`/* user.set_profile */
    update account
    set given_name = ${kept(givenName, before.givenName)}, family_name = ${kept(familyName, before.familyName)},
        company = ${kept(company, before.company)}, location = ${kept(location, before.location)}
    where id = ${before.id}`;
  edit.answered.push("enter_name", "enter_company");
  const metadata = Object.fromEntries(Object.entries(given).filter(([, text]) => text !== undefined));
  await log(edit, "user_change_metadata", metadata);
}

/** One line of a length that can be shown: these texts stand in mails, pages and logs. */
function requireLine(field: string, text: string | null | undefined): void {
  if (text === undefined || text === null) return;
  if (text.length <= TEXT_CHARS_MAX && !/\p{Cc}/u.test(text)) return;
  throw new RegistryError("invalid_request", {
    message: `field '${field}': must be one line of at most ${TEXT_CHARS_MAX} characters`,
  });
}

async function removePrompts({ tx, before, answered }: Edit): Promise<void> {
  const left = before.prompts.filter((prompt) => !answered.includes(prompt));
  if (left.length === before.prompts.length) return;
  await tx.sql`/* user.set_prompts */ update account set prompts = ${JSON.stringify(left)} where id = ${before.id}`;
}
