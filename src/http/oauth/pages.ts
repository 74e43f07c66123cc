/** What the pages of the authorization flows say: the question, the token, and why something cannot be done. */

import type { AuthorizationRequest } from "../../domain/oauth/authorize.ts";
import { scopeViews } from "../../domain/oauth/scopes.ts";
import type { AuthorizedApplication } from "../../domain/oauth/token.ts";
import { type Html, html, renderPage } from "./page.ts";

export interface Consent {
  readonly request: AuthorizationRequest;
  readonly username: string;
  readonly organization: string;
  readonly csrfToken: string;
  readonly assignmentUuid: string | undefined;
}

/** Asks whether the application may have what it asks for. */
export function consentPage({ request, username, organization, csrfToken, assignmentUuid }: Consent): Response {
  const { application, redirectUri, responseType, scopes, state } = request;
  const fields: readonly (readonly [name: string, value: string | undefined])[] = [
    ["_csrf_token", csrfToken],
    ["client_id", application.clientId],
    ["redirect_uri", redirectUri],
    ["response_type", responseType],
    ["scope", [...scopes].join(" ")],
    ["state", state],
    ["assignment_uuid", assignmentUuid],
  ];
  const hidden = fields.flatMap(([name, value]) =>
    value === undefined ? [] : [html`<input type="hidden" name="${name}" value="${value}">`],
  );
  const wanted = scopeViews(scopes).map(({ title, description, dangerous }) => {
    const warning = dangerous ? html` <strong class="danger">This reaches far.</strong>` : html``;
    return html`<li><strong>${title}</strong><br>${description}${warning}</li>`;
  });
  const { origin } = new URL(redirectUri);
  return renderPage({
    title: "Authorize an application",
    formTarget: origin,
    content: html`
<p><strong><bdi>${application.name}</bdi></strong> of the organization <strong><bdi>${organization}</bdi></strong> asks
for access to this registry as you, <strong><bdi>${username}</bdi></strong>.</p>
${about(application)}
<p>It would be able to:</p>
<ul>${wanted}</ul>
<p>Your answer goes to <code>${origin}</code>.</p>
<div class="actions">
<form method="post" action="/oauth/authorizeapp">${hidden}<button class="go" type="submit">Authorize</button></form>
<form method="post" action="/oauth/denyapp">${hidden}<button type="submit">Refuse</button></form>
</div>`,
  });
}

function about({ description, applicationUri }: Pick<AuthorizedApplication, "description" | "applicationUri">): Html {
  const text = description === "" ? html`` : html`<p><bdi>${description}</bdi></p>`;
  // The domain has taken none but http and https addresses.
  const link =
    applicationUri === ""
      ? html``
      : html`<p><a rel="noreferrer noopener" href="${applicationUri}">${applicationUri}</a></p>`;
  return html`${text}${link}`;
}

/**
 * Takes the token out of the address, where it would stay in the history, and shows it as text. It came in the fragment,
 * which browsers do not send, so this has to be a script.
 */
const SHOW_TOKEN = `
const fields = new URLSearchParams(location.hash.slice(1));
history.replaceState(null, "", location.pathname);
const token = fields.get("access_token");
if (token) { document.getElementById("token").textContent = token; document.getElementById("given").hidden = false; }
else { document.getElementById("none").hidden = false; }
`;

/** The token of a "Generate Token": it stands in the fragment of this page's address. */
export function tokenPage(): Response {
  return renderPage({
    title: "Access token",
    script: SHOW_TOKEN,
    content: html`
<div id="given" hidden>
<p>This is your token. It is shown this once:</p>
<p><code id="token"></code></p>
<p>Use it as <code>Authorization: Bearer …</code> on the API, or as the password of the user <code>$oauthtoken</code>
with <code>podman login</code> or <code>docker login</code>.</p>
</div>
<p id="none" hidden>No token was given.</p>
<noscript><p>Without scripts the token can only be read from the address of this page, behind "access_token=".</p></noscript>`,
  });
}

/** Why the request ends here. The browser is sent nowhere. */
export function errorPage(status: number, message: string): Response {
  return renderPage({
    title: "This cannot be authorized",
    status,
    content: html`<p class="danger">${message}</p>`,
  });
}

/** A sentence for somebody who has done something. */
export function messagePage(title: string, message: string): Response {
  return renderPage({ title, content: html`<p>${message}</p>` });
}
