/**
 * GET /oauth2/federation/robot/token: a robot's name and an ID token as Basic, a token of the robot as the answer. Source:
 * quay-api reference, section 20.
 */

import type { App } from "../../app.ts";
import { exchangeIdToken } from "../../domain/robot/federation.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { renderMessage } from "../api/errors.ts";
import { type Client, requestOrigin } from "../context.ts";
import { audienceOf, baseUrl } from "../registry/challenge.ts";
import { toRegistryError } from "../registry/errors.ts";
import { readBasic } from "./caller.ts";

/**
 * Whom a token may be made for: us, under either of our names. A token for another service is not to be carried here, so
 * the name that the request's own Host header gives us does not count.
 */
function audiencesOf(app: App, request: Request): string[] {
  const audience = audienceOf(app.config);
  return app.config.SERVER_HOSTNAME === undefined ? [audience] : [audience, baseUrl(app.config, request)];
}

export async function federationRoute(app: App, request: Request, client: Client): Promise<Response> {
  try {
    const basic = readBasic(request.headers.get("authorization") ?? "");
    if (!basic) {
      throw new RegistryError("unauthorized", {
        message: "Send the robot's name and the ID token as Basic authorization",
        headers: { "WWW-Authenticate": 'Basic realm="robot federation"' },
      });
    }
    const token = await exchangeIdToken(app, {
      robotName: basic.username,
      idToken: basic.secret,
      audiences: audiencesOf(app, request),
      request: requestOrigin(request, client),
    });
    return Response.json({ token }, { headers: { "Cache-Control": "no-store" } });
  } catch (thrown) {
    const error = toRegistryError(thrown);
    if (thrown !== error) app.log.error("request failed", { path: "federation", ...errorFields(thrown) });
    return renderMessage(error);
  }
}
