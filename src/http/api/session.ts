/** Signing in and out, and asking for the password again. Source: quay-api reference, section 2. */

import { z } from "zod";
import type { App } from "../../app.ts";
import { type SignedIn, type SignInRefusal, signIn, signOut, verifyPassword } from "../../domain/user/sign-in.ts";
import { csrfToken, sessionHeaders, sessionTokenOf, visitorHeaders } from "../auth/session.ts";
import { type ApiRoute, json, route } from "./route.ts";

export const successSchema = () => z.strictObject({ success: z.literal(true) });

/** What Quay answers to a sign-in, good or not. */
export function signInAnswer(app: App, result: SignedIn | SignInRefusal): Response {
  if (result.token !== undefined) return json(200, { success: true }, sessionHeaders(app, result.token));
  const { needsEmailVerification, invalidCredentials, message } = result;
  return json(403, { needsEmailVerification, invalidCredentials, message: message ?? null });
}

/** Quay's clients take the CSRF value from every answer to a password; the session goes on, and so does its value. */
export function nextCsrf(app: App, request: Request): Record<string, string> {
  const token = sessionTokenOf(app, request);
  return token === undefined ? {} : { "X-Next-CSRF-Token": csrfToken(app, token) };
}

export const sessionRoutes: readonly ApiRoute[] = [
  route({
    method: "POST",
    path: "/signin",
    summary: "Signs in with user name or e-mail address and password",
    needs: "anyone",
    anonymousOk: true,
    internal: true,
    feature: (config) => config.FEATURE_DIRECT_LOGIN,
    body: () => z.object({ username: z.string(), password: z.string(), invite_code: z.string().nullish() }),
    answers: { 200: successSchema },
    async handle({ app, request, body, origin }) {
      const before = sessionTokenOf(app, request);
      const { username: login, password, invite_code } = body;
      const inviteCode = invite_code ?? undefined;
      return signInAnswer(app, await signIn(app, { login, password, inviteCode, before, request: origin() }));
    },
  }),
  route({
    method: "POST",
    path: "/signin/verify",
    summary: "Checks the caller's password again, which opens what asks for a fresh log-in",
    needs: { account: "admin" },
    // Changes nothing of the registry: what is only read may ask for a fresh log-in too.
    anonymousOk: true,
    internal: true,
    body: () => z.object({ password: z.string() }),
    answers: { 200: successSchema },
    async handle({ app, principal, session, request, body }) {
      if (await verifyPassword(app, principal, session, body.password)) {
        return json(200, { success: true }, nextCsrf(app, request));
      }
      return json(403, { message: "Invalid Username or Password", invalidCredentials: true });
    },
  }),
  route({
    method: "POST",
    path: "/signout",
    summary: "Ends every session of the user",
    needs: "anyone",
    anonymousOk: true,
    internal: true,
    answers: { 200: successSchema },
    async handle({ app, session, caller, origin }) {
      // A token ends no sessions, and a visitor has none.
      if (session && caller.principal) await signOut(app, caller.principal, origin());
      return json(200, { success: true }, visitorHeaders(app));
    },
  }),
];
