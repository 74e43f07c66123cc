/**
 * The pages that mailed links open, and the sign-in they and the consent page send a browser to. Opening a link changes
 * nothing: each change is a form with the CSRF value of its own cookie, and no page sends a browser to an address that
 * came with the request, but to two paths of ours. Source: quay-api reference, section 17.
 */

import type { App } from "../../app.ts";
import { isMailing } from "../../domain/mail/mailing.ts";
import { findRecovery, recoverPassword } from "../../domain/recovery/recovery.ts";
import { confirmRepositoryEmail } from "../../domain/repository/authorized-email.ts";
import { newSessionToken } from "../../domain/session/session.ts";
import { confirmEmail, findConfirmation } from "../../domain/sign-up/confirmation.ts";
import { findInvitation } from "../../domain/sign-up/invited.ts";
import { answerInvite } from "../../domain/team/invites.ts";
import { signIn } from "../../domain/user/sign-in.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { authenticateSession } from "../api/authenticate.ts";
import { csrfToken, hasCsrf, sessionCookie, sessionTokenOf } from "../auth/session.ts";
import { type Client, requestOrigin, splitUrl } from "../context.ts";
import { readForm } from "../form.ts";
import { redirectTo } from "../oauth/page.ts";
import { toRegistryError } from "../registry/errors.ts";
import {
  confirmPage,
  donePage,
  failurePage,
  invitePage,
  recoveryPage,
  repositoryEmailPage,
  signInPage,
} from "./pages.ts";

/** What is mounted; a method that a path does not have is left to others. */
export const ACCOUNT_PAGES = ["/signin", "/recovery", "/confirm", "/confirminvite", "/authrepoemail"] as const;

interface Visit {
  readonly app: App;
  readonly request: Request;
  readonly client: Client;
  /** Of the query, or for POST of the form. */
  readonly fields: URLSearchParams;
  readonly code: string;
  readonly csrf: string;
}

type Handle = (visit: Visit) => Promise<Response | undefined>;

const CODE_CHARS_MAX = 255;
const STALE = "This link is not good any more: it was used, or its time is over. Please ask for a new one.";

/** Answers one of ACCOUNT_PAGES; undefined where nothing is. It never throws. */
export async function answerAccountPage(app: App, request: Request, client: Client): Promise<Response | undefined> {
  const { path, query } = splitUrl(request.url);
  const isRead = request.method === "GET" || request.method === "HEAD";
  const handle = HANDLERS[`${isRead ? "GET" : request.method} ${path}`];
  if (!handle) return undefined;
  try {
    const fields = isRead ? new URLSearchParams(query) : await readForm(request);
    const known = sessionTokenOf(app, request);
    const cookie = known ?? newSessionToken();
    if (!isRead) requireOwnForm(app, request, fields);
    const code = fields.get("code") ?? "";
    if (code.length > CODE_CHARS_MAX) throw new RegistryError("not_found");
    const response = await handle({ app, request, client, fields, code, csrf: csrfToken(app, cookie) });
    // The page's form is good for the cookie that the browser has, and a new visitor has none yet.
    if (isRead && known === undefined) response?.headers.append("Set-Cookie", sessionCookie(app, cookie));
    return response;
  } catch (thrown) {
    return failure(app, request, path, thrown);
  }
}

/** Throws unless the form was ours and something may be changed. */
function requireOwnForm(app: App, request: Request, fields: URLSearchParams): void {
  if (!hasCsrf(app, request, fields.get("_csrf_token"))) {
    throw new RegistryError("csrf_invalid", { message: "This form is too old. Please open the link again." });
  }
}

function requireWritable(app: App): void {
  if (app.config.REGISTRY_STATE !== "readonly") return;
  throw new RegistryError("registry_readonly", { message: "The registry is read-only at the moment." });
}

const STATUS: Partial<Record<RegistryError["code"], number>> = {
  csrf_invalid: 403,
  denied: 403,
  not_found: 404,
  request_too_large: 413,
  too_many_logins: 429,
  too_many_requests: 429,
  registry_readonly: 503,
  unavailable: 503,
};

function failure(app: App, request: Request, path: string, thrown: unknown): Response {
  const error = toRegistryError(thrown);
  if (thrown !== error || error.code === "unavailable") {
    app.log.error("request failed", { method: request.method, path, ...errorFields(thrown) });
  }
  const text = error.worded ? error.message : error.code === "not_found" ? STALE : "The registry cannot do this now.";
  const response = failurePage(STATUS[error.code] ?? 400, text);
  for (const [key, value] of Object.entries(error.headers)) response.headers.set(key, value);
  return response;
}

const HANDLERS: Readonly<Record<string, Handle | undefined>> = {
  "GET /signin": async ({ app, fields, csrf }) =>
    app.config.FEATURE_DIRECT_LOGIN ? signInPage({ csrf, next: safeNext(fields) }) : undefined,

  async "POST /signin"({ app, request, client, fields, csrf }) {
    if (!app.config.FEATURE_DIRECT_LOGIN) return undefined;
    const username = fields.get("username") ?? "";
    const result = await signIn(app, {
      login: username,
      password: fields.get("password") ?? "",
      before: sessionTokenOf(app, request),
      request: requestOrigin(request, client),
    });
    const next = safeNext(fields);
    if (result.token === undefined) return signInPage({ csrf, next, username, message: result.message, status: 403 });
    return withSession(app, redirectTo(next ?? "/"), result.token);
  },

  async "GET /recovery"({ app, code, csrf }) {
    if (!isMailing(app.config) || code === "") return undefined;
    const account = await findRecovery(app, code);
    if (!account) throw new RegistryError("not_found");
    return recoveryPage({ csrf, code, username: account.username });
  },

  async "POST /recovery"({ app, request, client, fields, code, csrf }) {
    requireWritable(app);
    try {
      const { token, username } = await recoverPassword(app, {
        code,
        password: fields.get("password") ?? "",
        before: sessionTokenOf(app, request),
        request: requestOrigin(request, client),
      });
      const text = `The account "${username}" has a new password, and you are signed in with it here.`;
      return withSession(app, donePage("The password is changed", text), token);
    } catch (error) {
      if (!(error instanceof RegistryError) || error.code !== "invalid_request") throw error;
      const account = await findRecovery(app, code);
      if (!account) throw new RegistryError("not_found");
      return recoveryPage({ csrf, code, username: account.username, message: error.message });
    }
  },

  async "GET /confirm"({ app, code, csrf }) {
    const found = await findConfirmation(app, code);
    if (!found) throw new RegistryError("not_found");
    return confirmPage({ csrf, code, ...found });
  },

  async "POST /confirm"({ app, request, client, code }) {
    requireWritable(app);
    const { username, email } = await confirmEmail(app, code, requestOrigin(request, client));
    return donePage("The address is confirmed", `${email} is the address of "${username}". You can sign in now.`);
  },

  async "GET /confirminvite"({ app, request, code, csrf }) {
    const invite = await findInvitation(app.db, code);
    if (!invite) throw new RegistryError("not_found");
    const { principal } = await authenticateSession(app, request);
    if (principal?.kind === "user") return invitePage({ csrf, code, username: principal.username, invite });
    const here = `/confirminvite?code=${encodeURIComponent(code)}`;
    return redirectTo(`/signin?redirect_url=${encodeURIComponent(here)}`);
  },

  async "POST /confirminvite"({ app, request, client, fields, code }) {
    requireWritable(app);
    const caller = await authenticateSession(app, request);
    const answer = fields.get("answer") === "accept" ? "accept" : "decline";
    const by = { caller, request: requestOrigin(request, client) };
    const { organization, team } = await answerInvite(app, code, answer, by);
    return answer === "accept"
      ? donePage("Welcome", `You are in the team "${team}" of the organization "${organization}" now.`)
      : donePage("Declined", `You were not put into the team "${team}" of the organization "${organization}".`);
  },

  "GET /authrepoemail": async ({ code, csrf }) => (code === "" ? undefined : repositoryEmailPage(csrf, code)),

  async "POST /authrepoemail"({ app, code }) {
    requireWritable(app);
    const { repository, email } = await confirmRepositoryEmail(app, code);
    return donePage("Allowed", `Notifications of the repository "${repository}" may be sent to ${email}.`);
  },
};

/** The paths that sign-in goes on to: consent and invitations. Anything else could lead out of here. */
const NEXT = /^\/(oauth\/authorize|confirminvite)\?[\x21-\x7e]*$/;

function safeNext(fields: URLSearchParams): string | undefined {
  const next = fields.get("redirect_url");
  return next !== null && NEXT.test(next) ? next : undefined;
}

function withSession(app: App, response: Response, token: string): Response {
  response.headers.append("Set-Cookie", sessionCookie(app, token));
  return response;
}
