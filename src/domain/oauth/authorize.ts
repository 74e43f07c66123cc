/**
 * The authorization flows: reading a request of an application, whether it needs to be asked about, and what the browser
 * is sent back with: a token at once ("token") or a code to fetch it with ("code"). Source: quay-api reference, section
 * 17; RFC 6749 sections 4.1 and 4.2. Pages and forms are http/oauth.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { quoteValue } from "../../oci/quote.ts";
import type { OauthScope, Principal } from "../access/actor.ts";
import { type Application, findApplication } from "./application.ts";
import { settleAssignment } from "./assignment.ts";
import { insertCode } from "./code.ts";
import { isAllowedRedirect, withFields } from "./redirect.ts";
import { isDangerous, parseRequestedScopes } from "./scopes.ts";
import { hasConsented, insertToken, TOKEN_LIFE_SECONDS } from "./token.ts";

export type ResponseType = "code" | "token";

/** A request that may be answered at its `redirectUri`. */
export interface AuthorizationRequest {
  readonly application: Application;
  readonly redirectUri: string;
  readonly responseType: ResponseType;
  readonly scopes: ReadonlySet<OauthScope>;
  readonly state: string | undefined;
}

/** The request, or where to send the browser when it is wrong in a way that the application may be told of. */
export type ReadRequest =
  | { readonly kind: "request"; readonly request: AuthorizationRequest }
  | { readonly kind: "redirect"; readonly location: string };

type AuthorizeApp = Pick<App, "config" | "db" | "clock" | "secrets">;

const STATE_CHARS_MAX = 2000;

/**
 * Reads the parameters of an authorization request. Throws `invalid_request` while it is not sure that the browser may be
 * sent to `redirect_uri`: for an unknown application, or an address that is not the application's nor `localHandler`,
 * Berth's own page that shows the token.
 */
export async function readAuthorizationRequest(
  app: AuthorizeApp,
  parameters: URLSearchParams,
  localHandler: string,
): Promise<ReadRequest> {
  const clientId = parameters.get("client_id") ?? "";
  const application = clientId === "" || clientId.includes("\u0000") ? undefined : await findApplication(app, clientId);
  if (!application) {
    throw new RegistryError("invalid_request", {
      message: `There is no application with client_id ${quoteValue(clientId)}`,
    });
  }
  const redirectUri = parameters.get("redirect_uri") ?? "";
  if (redirectUri !== localHandler && !isAllowedRedirect(application.redirectUri, redirectUri)) {
    const message = `The redirect_uri ${quoteValue(redirectUri)} is not one that the application has registered`;
    throw new RegistryError("invalid_request", { message });
  }
  const state = parameters.get("state") ?? undefined;
  if (state !== undefined && state.length > STATE_CHARS_MAX) {
    throw new RegistryError("invalid_request", { message: `The state has more than ${STATE_CHARS_MAX} characters` });
  }
  const asked = parameters.get("response_type");
  const responseType = asked === "code" || asked === "token" ? asked : undefined;
  const back = { redirectUri, responseType: responseType ?? "code", state } as const;
  if (responseType === undefined)
    return { kind: "redirect", location: errorLocation(back, "unsupported_response_type") };
  try {
    const scopes = parseRequestedScopes(parameters.get("scope") ?? "");
    return { kind: "request", request: { application, redirectUri, responseType, scopes, state } };
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return { kind: "redirect", location: errorLocation(back, "invalid_scope") };
  }
}

/** Where the browser goes with a refusal. Source: RFC 6749, sections 4.1.2.1 and 4.2.2.1. */
export function errorLocation(
  request: Pick<AuthorizationRequest, "redirectUri" | "responseType" | "state">,
  error: "access_denied" | "unsupported_response_type" | "invalid_scope",
): string {
  const place = request.responseType === "token" ? "fragment" : "query";
  return withFields(request.redirectUri, place, { error, state: request.state });
}

/**
 * True when the user need not be asked: the application is on DIRECT_OAUTH_CLIENTID_WHITELIST, or has a token of the user
 * for these scopes and none of them is dangerous.
 */
export async function isAuthorizedAlready(
  app: AuthorizeApp,
  principal: Principal,
  { application, scopes }: AuthorizationRequest,
): Promise<boolean> {
  if (app.config.DIRECT_OAUTH_CLIENTID_WHITELIST.includes(application.clientId)) return true;
  return !isDangerous(scopes) && (await hasConsented(app, principal.accountId, application.id, scopes));
}

/**
 * Gives the application what it asked for in the user's name, and says where the browser goes with it. What an
 * organization's admin had asked the user for (`assignmentUuid`) is settled with it.
 */
export async function approve(
  app: AuthorizeApp,
  principal: Principal,
  request: AuthorizationRequest,
  assignmentUuid?: string,
): Promise<string> {
  const { redirectUri, state } = request;
  return app.db.tx(async (tx) => {
    if (assignmentUuid !== undefined) {
      await settleAssignment(tx, request.application.id, principal.accountId, assignmentUuid);
    }
    const input = {
      applicationId: request.application.id,
      accountId: principal.accountId,
      scopes: request.scopes,
      nowMs: app.clock.nowMs(),
    };
    if (request.responseType === "code") {
      const code = await insertCode(tx, { ...input, redirectUri });
      return withFields(redirectUri, "query", { code, state });
    }
    const { token } = await insertToken(tx, input);
    return withFields(redirectUri, "fragment", {
      access_token: token,
      token_type: "Bearer",
      expires_in: String(TOKEN_LIFE_SECONDS),
      state,
    });
  });
}
