/** Making an account for oneself. By superusers accounts are made elsewhere, and the first one in `user/first-user.ts`. */

import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { durationMs } from "../../config/units.ts";
import type { Db, Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { parsePassword, parseUsername } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { sendConfirmation } from "../mail/mail.ts";
import { type Account, callerFor, createUser, findAccount, findAccountById } from "../user/account.ts";
import type { Prompt } from "../user/profile.ts";
import { beginSession } from "../user/sign-in.ts";
import { findEmailOwner, parseUserEmail } from "../user/user-email.ts";
import { requireHuman } from "./captcha.ts";
import { issueConfirmation } from "./confirmation.ts";
import { findInvited, type Invited, provesAddress } from "./invited.ts";

type SignUpApp = Pick<App, "config" | "db" | "clock" | "passwords" | "mailer" | "captcha" | "audit" | "logins" | "log">;

export interface SignUp {
  username: string;
  password: string;
  email?: string | undefined;
  inviteCode?: string | undefined;
  captcha?: string | undefined;
  /** The session that the browser came with: it ends. */
  before: string | undefined;
  caller: Caller;
  request: RequestOrigin;
}

/** Undefined: the account waits for its address to be confirmed. Else the session that was begun for it. */
export type SignedUp = { readonly token: string; readonly accountId: number } | undefined;

/**
 * Makes an account and signs it in, or, with mail on, sends a mail whose link opens it. Throws `invalid_request` and
 * `name_invalid` in Quay's words, `captcha_failed`, and `mail_failed` when the account is made but its mail did not go out:
 * signing in sends another. Source: quay-api reference, sections 2 and 2.2.
 */
export async function signUp(app: SignUpApp, input: SignUp): Promise<SignedUp> {
  const { config } = app;
  const { inviteCode, request } = input;
  await requireHuman(app, { caller: input.caller, answer: input.captcha, request });
  // An empty field is how web forms leave it out.
  const email = input.email === undefined || input.email === "" ? undefined : parseUserEmail(input.email);
  const username = input.username;
  await requireFreeName(app.db, username);
  parseUsername(username);
  if (email === undefined && app.mailer.isOn) throw invalid("Email address is required");
  const invited = inviteCode ? await findInvited(app.db, inviteCode) : undefined;
  // An invitation of a user is that user's: who has none yet can only have been invited by address.
  if (config.FEATURE_INVITE_ONLY_USER_CREATION && invited?.email === undefined) {
    throw invalid("Cannot create non-invited user");
  }
  if (email !== undefined) await requireUsableAddress(config, app.db, email);
  const passwordHash = await app.passwords.hash(parsePassword(input.password));
  const { account, code } = await app.db.tx((tx) =>
    insertUser(app, tx, { username, email, passwordHash, invited, request }),
  );
  if (code === undefined || email === undefined) {
    return { token: await beginSession(app, account, { before: input.before, request }), accountId: account.id };
  }
  await sendConfirmation(app, { to: email, username, code });
  return undefined;
}

async function requireFreeName(db: Db, username: string): Promise<void> {
  // No account has such a name, and PostgreSQL refuses to look for NUL; the rules of names say what is wrong with it.
  if (/\p{Cc}/u.test(username)) return;
  const taken = await findAccount(db, username);
  if (taken?.kind === "user") throw invalid("The username already exists");
  if (taken?.kind === "organization") {
    throw invalid(`Username has already been taken by an organization and cannot be reused: ${username}`);
  }
}

async function requireUsableAddress(config: Config, db: Db, email: string): Promise<void> {
  if (config.FEATURE_BLACKLISTED_EMAILS && isBlacklisted(config.BLACKLISTED_EMAIL_DOMAINS, email)) {
    throw invalid("Creation of a user account for this e-mail is disabled; please contact an administrator");
  }
  if (await findEmailOwner(db, email)) throw invalid(`Email has already been used: ${email}`);
}

/** A domain of the list, or one below it. */
function isBlacklisted(domains: readonly string[], email: string): boolean {
  const domain = email
    .slice(email.lastIndexOf("@") + 1)
    .toLowerCase()
    .replace(/\.+$/, "");
  return domains.some((listed) => {
    const suffix = listed.toLowerCase();
    return domain === suffix || domain.endsWith(`.${suffix}`);
  });
}

interface NewRow {
  username: string;
  email: string | undefined;
  passwordHash: string;
  invited: Invited | undefined;
  request: RequestOrigin;
}

/** The account's row and log entry, and the code it waits for, if any. */
async function insertUser(
  app: SignUpApp,
  tx: Tx,
  { username, email, passwordHash, invited, request }: NewRow,
): Promise<{ account: Account; code: string | undefined }> {
  const nowMs = app.clock.nowMs();
  const tagExpirationSeconds = durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000;
  const waits = app.mailer.isOn && !provesAddress(invited, { id: 0, email });
  const id = await createUser(tx, { username, email, passwordHash, verified: !waits }, { tagExpirationSeconds, nowMs });
  const prompts: Prompt[] = app.config.FEATURE_USER_METADATA ? ["enter_name", "enter_company"] : [];
  await tx.sql`/* sign_up.prompts */ update account set prompts = ${JSON.stringify(prompts)} where id = ${id}`;
  const account = await findAccountById(tx, id);
  if (!account) throw new Error("a new account is not there");
  const caller = callerFor(app.config, account);
  const metadata = { email: email ?? null, username };
  await logAction(tx, { kind: "user_create", caller, namespaceId: id, request, nowMs, metadata });
  return { account, code: waits ? await issueConfirmation(tx, { accountId: id, nowMs }) : undefined };
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
