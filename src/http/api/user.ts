/** The caller's own account, and what others may see of a user. Source: quay-api reference, section 2. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { hasScope } from "../../domain/access/actor.ts";
import { readonly } from "../../domain/access/require.ts";
import { logAction } from "../../domain/audit/audit.ts";
import { makeClientKey } from "../../domain/client-key/client-key.ts";
import { signUp } from "../../domain/sign-up/sign-up.ts";
import { callerFor, findAccountById } from "../../domain/user/account.ts";
import { editUser } from "../../domain/user/edit-user.ts";
import { convertUser, deleteUser } from "../../domain/user/end-user.ts";
import { findProfile, findProfileById, type Profile } from "../../domain/user/profile.ts";
import { beginSession, isOwnPassword } from "../../domain/user/sign-in.ts";
import { RegistryError } from "../../errors.ts";
import { sessionHeaders, sessionTokenOf, visitorHeaders } from "../auth/session.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { nextCsrf, signInAnswer, successSchema } from "./session.ts";
import { publicUserSchema, publicUserView, userSchema, userView } from "./user-view.ts";

/** Where accounts are kept here and not in a directory. */
const isDatabase = (config: Config) => config.AUTHENTICATION_TYPE === "Database";

async function getProfile(app: App, accountId: number): Promise<Profile> {
  const profile = await findProfileById(app.db, accountId);
  if (!profile) throw new RegistryError("not_found");
  return profile;
}

export const userRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/user/",
    summary: "Shows the caller's account",
    needs: { account: "read" },
    anonymousDetail: { session_required: false },
    answers: { 200: userSchema },
    async handle({ app, caller, principal }) {
      return json(200, await userView(app, caller, await getProfile(app, principal.accountId)));
    },
  }),
  route({
    method: "POST",
    path: "/user/",
    summary: "Makes an account for whoever asks",
    needs: "anyone",
    anonymousOk: true,
    internal: true,
    feature: (config) => config.FEATURE_USER_CREATION && config.FEATURE_DIRECT_LOGIN && isDatabase(config),
    body: () =>
      z.object({
        username: z.string(),
        password: z.string(),
        email: z.string().nullish(),
        invite_code: z.string().nullish(),
        recaptcha_response: z.string().nullish(),
      }),
    answers: { 200: () => z.union([userSchema(), z.strictObject({ awaiting_verification: z.literal(true) })]) },
    async handle({ app, caller, request, body, origin }) {
      if (app.config.REGISTRY_STATE === "readonly") throw readonly();
      const made = await signUp(app, {
        username: body.username,
        password: body.password,
        email: body.email ?? undefined,
        inviteCode: body.invite_code ?? undefined,
        captcha: body.recaptcha_response ?? undefined,
        before: sessionTokenOf(app, request),
        caller,
        request: origin(),
      });
      if (made === undefined) return json(200, { awaiting_verification: true });
      const account = await findAccountById(app.db, made.accountId);
      if (!account) throw new RegistryError("not_found");
      const view = await userView(app, callerFor(app.config, account), await getProfile(app, account.id));
      return json(200, view, sessionHeaders(app, made.token));
    },
  }),
  route({
    method: "PUT",
    path: "/user/",
    summary: "Changes the caller's account",
    needs: { account: "admin" },
    freshLogin: true,
    internal: true,
    body: () =>
      z.object({
        password: z.string().optional(),
        email: z.string().optional(),
        username: z.string().optional(),
        tag_expiration_s: z.number().int().min(0).optional(),
        invoice_email: z.boolean().optional(),
        invoice_email_address: z.string().nullish(),
        given_name: z.string().nullish(),
        family_name: z.string().nullish(),
        company: z.string().nullish(),
        location: z.string().nullish(),
      }),
    answers: { 200: userSchema },
    async handle({ app, caller, principal, session, request, body, origin }) {
      const profile = await editUser(app, {
        principal,
        session,
        caller,
        request: origin(),
        changes: {
          password: body.password,
          email: body.email,
          username: body.username,
          tagExpirationSeconds: body.tag_expiration_s,
          invoiceEmail: body.invoice_email,
          invoiceEmailAddress: body.invoice_email_address,
          givenName: body.given_name,
          familyName: body.family_name,
          company: body.company,
          location: body.location,
        },
      });
      const headers = body.password === undefined ? {} : nextCsrf(app, request);
      return json(200, await userView(app, caller, profile), headers);
    },
  }),
  route({
    method: "DELETE",
    path: "/user/",
    summary: "Deletes the caller's account with everything in its namespace",
    needs: { account: "admin" },
    freshLogin: true,
    internal: true,
    feature: isDatabase,
    answers: { 204: null },
    async handle({ app, caller, principal, session, origin }) {
      await deleteUser(app, { principal, caller, request: origin() });
      return noContent(session && visitorHeaders(app));
    },
  }),
  route({
    method: "GET",
    path: "/users/{username}",
    summary: "Shows a user: to itself and to superusers everything, to others its name",
    needs: "anyone",
    answers: { 200: () => z.union([publicUserSchema(), userSchema()]) },
    async handle({ app, caller, params }) {
      const profile = await findProfile(app.db, params.username ?? "");
      if (!profile) throw new RegistryError("not_found");
      const { principal } = caller;
      const maySeeAll =
        principal?.superuser === true ||
        (principal?.accountId === profile.id && hasScope(caller, "user:read", "user:admin"));
      return json(200, maySeeAll ? await userView(app, caller, profile) : publicUserView(profile));
    },
  }),
  route({
    method: "POST",
    path: "/user/clientkey",
    summary: "Gives the caller's password in the encrypted form that command line clients may keep",
    needs: { account: "admin" },
    internal: true,
    body: () => z.object({ password: z.string() }),
    answers: { 200: () => z.strictObject({ key: z.string() }) },
    async handle({ app, caller, principal, body, origin }) {
      if (!(await isOwnPassword(app, principal, body.password))) {
        throw new RegistryError("invalid_request", { message: "Invalid Username or Password" });
      }
      await app.db.tx((tx) =>
        logAction(tx, {
          kind: "user_generate_client_key",
          caller,
          namespaceId: principal.accountId,
          request: origin(),
          nowMs: app.clock.nowMs(),
          metadata: {},
        }),
      );
      return json(200, { key: makeClientKey(app, body.password) });
    },
  }),
  route({
    method: "POST",
    path: "/user/convert",
    summary: "Makes an organization of the caller's account, administered by another user",
    needs: { account: "admin" },
    internal: true,
    feature: isDatabase,
    body: () => z.object({ adminUser: z.string(), adminPassword: z.string(), plan: z.string().nullish() }),
    answers: { 200: successSchema },
    async handle({ app, caller, principal, request, body, origin }) {
      const { adminUser: adminUsername, adminPassword } = body;
      const admin = await convertUser(app, { principal, caller, request: origin(), adminUsername, adminPassword });
      const before = sessionTokenOf(app, request);
      const token = await beginSession(app, admin, { before, request: origin() });
      return signInAnswer(app, { token, account: admin });
    },
  }),
];
