/** What the pages behind mailed links say: a question with a button, because mail scanners open links but press nothing. */

import { type Html, html, renderPage } from "../oauth/page.ts";

/** The value that every form sends back. */
type Csrf = string;

interface Form {
  readonly action: string;
  readonly csrf: Csrf;
  readonly fields?: Readonly<Record<string, string>>;
  readonly content: Html;
}

function form({ action, csrf, fields = {}, content }: Form): Html {
  const hidden = Object.entries({ _csrf_token: csrf, ...fields }).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  );
  return html`<form method="post" action="${action}">${hidden}${content}</form>`;
}

function button(label: string): Html {
  return html`<div class="actions"><button class="go" type="submit">${label}</button></div>`;
}

function problem(text: string | undefined): Html {
  return text === undefined ? html`` : html`<p class="danger" role="alert">${text}</p>`;
}

export interface SignInPage {
  readonly csrf: Csrf;
  /** A path of ours to go to afterwards. */
  readonly next: string | undefined;
  readonly username?: string;
  readonly message?: string | undefined;
  readonly status?: number;
}

export function signInPage({ csrf, next, username = "", message, status }: SignInPage): Response {
  const content = html`
<p><label>User name or e-mail address<br>
<input name="username" value="${username}" autocomplete="username" autocapitalize="none" required></label></p>
<p><label>Password<br><input name="password" type="password" autocomplete="current-password" required></label></p>
${button("Sign in")}`;
  const fields: Record<string, string> = next === undefined ? {} : { redirect_url: next };
  return renderPage({
    title: "Sign in",
    ...(status === undefined ? {} : { status }),
    content: html`${problem(message)}${form({ action: "/signin", csrf, fields, content })}`,
  });
}

export interface RecoveryPage {
  readonly csrf: Csrf;
  readonly code: string;
  readonly username: string;
  readonly message?: string | undefined;
}

export function recoveryPage({ csrf, code, username, message }: RecoveryPage): Response {
  const content = html`
<input type="hidden" name="username" value="${username}" autocomplete="username">
<p><label>New password, at least 8 characters without white space<br>
<input name="password" type="password" autocomplete="new-password" minlength="8" required></label></p>
${button("Change the password")}`;
  return renderPage({
    title: "Choose a new password",
    status: message === undefined ? 200 : 400,
    content: html`<p>For the account <strong><bdi>${username}</bdi></strong>.</p>
${problem(message)}${form({ action: "/recovery", csrf, fields: { code }, content })}`,
  });
}

export function confirmPage(input: { csrf: Csrf; code: string; username: string; email: string }): Response {
  const { csrf, code, username, email } = input;
  return renderPage({
    title: "Confirm an e-mail address",
    content: html`<p>Is <strong>${email}</strong> your address, and <strong><bdi>${username}</bdi></strong> your
account?</p>${form({ action: "/confirm", csrf, fields: { code }, content: button("Yes, confirm it") })}`,
  });
}

export function repositoryEmailPage(csrf: Csrf, code: string): Response {
  return renderPage({
    title: "Notifications of a repository",
    content: html`<p>Somebody would like to send notifications of a repository to your e-mail address. The mail says
who, and of which.</p>${form({ action: "/authrepoemail", csrf, fields: { code }, content: button("Allow it") })}`,
  });
}

export interface InvitePage {
  readonly csrf: Csrf;
  readonly code: string;
  readonly username: string;
  readonly invite: { readonly organization: string; readonly team: string; readonly inviter: string };
}

export function invitePage({ csrf, code, username, invite }: InvitePage): Response {
  const answer = (name: string, label: Html) =>
    form({ action: "/confirminvite", csrf, fields: { code, answer: name }, content: label });
  return renderPage({
    title: "An invitation",
    content: html`<p><strong><bdi>${invite.inviter}</bdi></strong> invites you,
<strong><bdi>${username}</bdi></strong>, to the team <strong><bdi>${invite.team}</bdi></strong> of the organization
<strong><bdi>${invite.organization}</bdi></strong>.</p>
<div class="actions">
${answer("accept", html`<button class="go" type="submit">Join</button>`)}
${answer("decline", html`<button type="submit">Decline</button>`)}
</div>`,
  });
}

/** Something was done. */
export function donePage(title: string, text: string): Response {
  return renderPage({ title, content: html`<p>${text}</p>` });
}

/** Something cannot be done. */
export function failurePage(status: number, text: string): Response {
  return renderPage({ title: "This cannot be done", status, content: problem(text) });
}
