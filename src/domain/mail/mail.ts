/**
 * Every mail that Berth sends, one function each. `send…` waits for the mail server and throws `mail_failed`; `notify…`
 * returns at once and leaves failures to the log. All are called after the transaction, never inside it.
 */
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { type Letter, writeLetter } from "./letter.ts";

type MailApp = Pick<App, "config" | "mailer">;

const MINUTE_MS = 60_000;

/** Sign-up: proves that the address is the new user's. */
export function sendConfirmation(app: MailApp, input: { to: string; username: string; code: string }): Promise<void> {
  return send(app, {
    to: input.to,
    subject: `Confirm your e-mail address for ${title(app)}`,
    name: input.username,
    paragraphs: [
      `An account "${input.username}" was made with this e-mail address. It can be used once you have confirmed it.`,
    ],
    link: { label: "Confirm this address", url: linkOf(app.config, "/confirm", input.code) },
    closing: ["If you did not make this account, do nothing: without confirmation it stays unusable."],
  });
}

/** A signed-in user wants another address: proves that the new one is theirs. */
export function sendEmailChangeConfirmation(
  app: MailApp,
  input: { to: string; username: string; code: string },
): Promise<void> {
  return send(app, {
    to: input.to,
    subject: `Confirm your new e-mail address for ${title(app)}`,
    name: input.username,
    paragraphs: [`The account "${input.username}" is to have this e-mail address from now on.`],
    link: { label: "Confirm the new address", url: linkOf(app.config, "/confirm", input.code) },
    closing: ["If you did not ask for this, do nothing: the account keeps its old address."],
  });
}

export interface Recovery {
  readonly to: string;
  readonly username: string;
  readonly code: string;
  /** How long the code lives: USER_RECOVERY_TOKEN_LIFETIME. */
  readonly lifetimeMs: number;
}

/** A superuser sends a user the link to choose a new password, and wants to know that it went out. */
export function sendRecovery(app: MailApp, input: Recovery): Promise<void> {
  return send(app, recoveryLetter(app, input));
}

/** "Forgot my password": returns at once, so that neither time nor failure tells whether the address is known. */
export function notifyRecovery(app: MailApp, input: Recovery): void {
  notify(app, recoveryLetter(app, input));
}

function recoveryLetter(app: MailApp, input: Recovery): Letter {
  const minutes = Math.max(1, Math.round(input.lifetimeMs / MINUTE_MS));
  return {
    to: input.to,
    subject: `Choose a new password for ${title(app)}`,
    name: input.username,
    paragraphs: [`Somebody, probably you, asked for a new password for the account "${input.username}".`],
    link: { label: "Choose a new password", url: linkOf(app.config, "/recovery", input.code) },
    closing: [
      `The link works once and for ${minutes} minutes.`,
      "If you did not ask for it, do nothing: your password stays as it is.",
    ],
  };
}

/** The address belongs to an organization, which has no password: names the users who can help. */
export function notifyOrganizationRecovery(
  app: MailApp,
  input: { to: string; organization: string; admins: readonly string[] },
): void {
  const who =
    input.admins.length === 0 ? "It has no administrators." : `Its administrators are: ${input.admins.join(", ")}.`;
  notify(app, {
    to: input.to,
    subject: `The organization "${input.organization}" on ${title(app)}`,
    paragraphs: [
      `Somebody asked to recover an account with this e-mail address. It belongs to the organization "${input.organization}".`,
      `Nobody logs in as an organization: its administrators manage it with their own accounts. ${who}`,
    ],
  });
}

export function notifyPasswordChanged(app: MailApp, input: { to: string; username: string }): void {
  notify(app, {
    to: input.to,
    subject: `Your password for ${title(app)} was changed`,
    name: input.username,
    paragraphs: [
      `The password of the account "${input.username}" has just been changed.`,
      "If that was not you, tell the administrator of this registry at once.",
    ],
  });
}

/** Goes to the old address, so that whoever loses the account to somebody else hears of it. */
export function notifyEmailChanged(app: MailApp, input: { to: string; username: string; newEmail: string }): void {
  notify(app, {
    to: input.to,
    subject: `Your e-mail address for ${title(app)} was changed`,
    name: input.username,
    paragraphs: [
      `The account "${input.username}" now has the e-mail address ${input.newEmail} instead of this one.`,
      "If that was not you, tell the administrator of this registry at once.",
    ],
  });
}

export interface TeamInvitation {
  readonly to: string;
  /** Undefined when the address has no account yet. */
  readonly username?: string | undefined;
  readonly inviter: string;
  readonly organization: string;
  readonly team: string;
  readonly code: string;
}

export function sendTeamInvitation(app: MailApp, input: TeamInvitation): Promise<void> {
  return send(app, {
    to: input.to,
    subject: `${input.inviter} invites you to the team "${input.team}" of "${input.organization}"`,
    name: input.username,
    paragraphs: [
      `${input.inviter} would like you to join the team "${input.team}" of the organization "${input.organization}" on ${title(app)}.`,
      ...(input.username === undefined ? ["You will be asked to sign in or to make an account first."] : []),
    ],
    link: { label: "See the invitation", url: linkOf(app.config, "/confirminvite", input.code) },
    closing: ["If you do not want to join, decline there or do nothing."],
  });
}

/** Somebody wants notifications of a repository sent to this address: its owner has to agree. */
export function sendRepositoryAuthorization(
  app: MailApp,
  input: { to: string; username: string; repository: string; code: string },
): Promise<void> {
  return send(app, {
    to: input.to,
    subject: `Do you want notifications of "${input.repository}"?`,
    paragraphs: [
      `${input.username} would like to send notifications about the repository "${input.repository}" on ${title(app)} to this e-mail address.`,
    ],
    link: { label: "Allow it", url: linkOf(app.config, "/authrepoemail", input.code) },
    closing: ["If you do not want them, do nothing: without your consent none are sent."],
  });
}

export interface LogExport {
  readonly to: string;
  readonly exportId: string;
  /** A namespace, or a repository with its namespace. */
  readonly subject: string;
  /** First and last day, as they were asked for. */
  readonly fromDate: string;
  readonly toDate: string;
  /** Where the file is, when there is one; else why not. Source: quay-behaviour reference, section 13 "Export". */
  readonly outcome:
    | { readonly status: "success"; readonly url: string; readonly lifetimeMs: number }
    | { readonly status: "failed" | "timedout" | "invalidrequest" };
}

const EXPORT_FAILURES = {
  failed: "It failed. Please ask for it again later.",
  timedout: "It took too long. Please ask for a shorter period.",
  invalidrequest: "What was asked for could not be exported.",
} as const;

export function sendLogExport(app: MailApp, input: LogExport): Promise<void> {
  const { outcome } = input;
  const what = `The export ${input.exportId} of the logs of "${input.subject}" from ${input.fromDate} to ${input.toDate}`;
  if (outcome.status !== "success") {
    return send(app, {
      to: input.to,
      subject: `The logs of "${input.subject}" could not be exported`,
      paragraphs: [`${what} has ended. ${EXPORT_FAILURES[outcome.status]}`],
    });
  }
  const minutes = Math.max(1, Math.round(outcome.lifetimeMs / MINUTE_MS));
  return send(app, {
    to: input.to,
    subject: `The logs of "${input.subject}" are ready`,
    paragraphs: [`${what} is done.`],
    link: { label: "Download the file", url: outcome.url },
    closing: [`The link works for ${minutes} minutes, for everybody who has it.`],
  });
}

/** A repository notification by mail: one line as subject, and what happened. */
export function sendNotification(app: MailApp, letter: Omit<Letter, "name" | "closing">): Promise<void> {
  return send(app, letter);
}

function send(app: MailApp, letter: Letter): Promise<void> {
  return app.mailer.send(writeLetter(app.config, letter));
}

function notify(app: MailApp, letter: Letter): void {
  app.mailer.sendLater(writeLetter(app.config, letter));
}

function title(app: MailApp): string {
  return app.config.REGISTRY_TITLE;
}

/**
 * A link that stands for a right. Its host is SERVER_HOSTNAME and never the Host header of whoever caused the mail, who
 * could have the code sent home that way; so config/cross-checks.ts wants SERVER_HOSTNAME where there is a MAIL_SERVER.
 */
function linkOf(config: Config, path: string, code: string): string {
  const base = `${config.PREFERRED_URL_SCHEME}://${config.SERVER_HOSTNAME ?? "localhost"}`;
  return `${base}${path}?code=${encodeURIComponent(code)}`;
}
