/** POST /api/v1/user/initialize: the first user, without log-in. Source: quay-api reference, section 17. */

import { z } from "zod";
import type { App } from "../../app.ts";
import { makeClientKey } from "../../domain/client-key/client-key.ts";
import { initializeFirstUser } from "../../domain/user/first-user.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { readBody } from "../registry/body.ts";
import { renderMessage } from "./errors.ts";
import type { DescribedRoute } from "./openapi.ts";

const BODY_BYTES_MAX = 64 * 1024;

const bodySchema = z.object({
  username: z.string(),
  password: z.string(),
  email: z.string().nullish(),
  access_token: z.boolean().nullish(),
});

/** The route stands outside the table, because it takes neither session nor CSRF value and has errors of its own. */
export const userInitializeDescription: DescribedRoute = {
  method: "POST",
  path: "/user/initialize",
  summary: "Makes the first user of an empty registry",
  needs: "anyone",
  query: undefined,
  body: () => bodySchema,
  answers: {
    200: () =>
      z.strictObject({
        username: z.string(),
        email: z.string().nullable(),
        encrypted_password: z.string(),
        access_token: z.string().optional(),
      }),
  },
};

/** Undefined when the feature is off: the route does not exist then. */
export async function userInitializeRoute(app: App, request: Request): Promise<Response | undefined> {
  if (!app.config.FEATURE_USER_INITIALIZE) return undefined;
  try {
    if (app.config.AUTHENTICATION_TYPE !== "Database") {
      throw new RegistryError("invalid_request", { message: "Cannot initialize user in a non-database auth system" });
    }
    const body = await readJson(request);
    const email = body.email ?? undefined;
    const { username, accessToken } = await initializeFirstUser(app, {
      username: body.username,
      password: body.password,
      email,
      accessToken: body.access_token === true,
    });
    return Response.json({
      username,
      email: email ?? null,
      encrypted_password: makeClientKey(app, body.password),
      ...(accessToken === undefined ? {} : { access_token: accessToken }),
    });
  } catch (error) {
    if (error instanceof RegistryError) return renderMessage(error);
    app.log.error("first user failed", errorFields(error));
    return renderMessage(new RegistryError("unavailable", { message: "the user cannot be made now" }));
  }
}

async function readJson(request: Request): Promise<z.infer<typeof bodySchema>> {
  const text = new TextDecoder().decode(await readBody(request, BODY_BYTES_MAX));
  const parsed = bodySchema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue?.path.length ? `${issue.path.join(".")}: ` : "";
  throw new RegistryError("invalid_request", {
    message: `Missing JSON body or wrong field: ${where}${issue?.message}`,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
