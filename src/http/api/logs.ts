/**
 * /api/v1/…/logs, aggregatelogs and exportlogs: the action log of a repository, a user, an organization, and for superusers
 * of the whole registry. Source: quay-api reference, sections 14 and 15.
 */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { type ExportRequest, requestExport } from "../../domain/audit/export.ts";
import { countLogs, type LogScope, listLogs } from "../../domain/audit/list.ts";
import { parseLogRange } from "../../domain/audit/range.ts";
import { entryView } from "../../domain/audit/view.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiContext, type ApiRoute, json, route } from "./route.ts";
import { avatarSchema, httpDate, httpDateSchema } from "./views.ts";

const rangeQuery = () => z.object({ starttime: z.string().optional(), endtime: z.string().optional() });
const pageQuery = () => rangeQuery().extend({ next_page: z.string().optional() });
const performerQuery = () => rangeQuery().extend({ performer: z.string().optional() });
const performerPageQuery = () => pageQuery().extend({ performer: z.string().optional() });

const entrySchema = () =>
  z.strictObject({
    kind: z.string(),
    metadata: z.record(z.string(), z.unknown()),
    ip: z.string().nullable(),
    datetime: httpDateSchema(),
    performer: z
      .strictObject({ kind: z.literal("user"), name: z.string(), is_robot: z.boolean(), avatar: avatarSchema() })
      .optional(),
    namespace: z.strictObject({ kind: z.enum(["org", "user"]), name: z.string(), avatar: avatarSchema() }).optional(),
  });

const logPageSchema = () =>
  z.strictObject({
    start_time: httpDateSchema(),
    end_time: httpDateSchema(),
    logs: z.array(entrySchema()),
    next_page: z.string().optional(),
  });

const countsSchema = () =>
  z.strictObject({
    aggregated: z.array(z.strictObject({ kind: z.string(), count: z.int(), datetime: httpDateSchema() })),
  });

/** What a log is asked for, beside whose it is. */
interface Asked {
  readonly starttime?: string | undefined;
  readonly endtime?: string | undefined;
  readonly performer?: string | undefined;
  readonly next_page?: string | undefined;
}

/** Whose log it is, and how it is shown. */
interface Shown {
  readonly scope: LogScope;
  readonly withoutServiceKeys?: boolean;
  /** The registry's log says of each entry whose namespace it was. */
  readonly withNamespace?: boolean;
}

async function answerLogs(
  app: App,
  asked: Asked,
  { scope, withoutServiceKeys, withNamespace }: Shown,
): Promise<Response> {
  // A token goes on with the list it came from, whatever is asked beside it: "a day ago" must not move between pages.
  const list = `logs ${JSON.stringify(scope)}`;
  const going = openPage(app, list, asked.next_page, positionSchema());
  const range = going?.range ?? parseLogRange(asked.starttime, asked.endtime, app.clock.nowMs());
  const performer = going ? going.performer : asked.performer;
  const query = { ...scope, range, performer, withoutServiceKeys: withoutServiceKeys === true };
  const { entries, next } = await listLogs(app, query, going?.at);
  return json(200, {
    start_time: httpDate(range.startMs),
    end_time: httpDate(range.endMs),
    logs: entries.map((entry) => entryView(entry, withNamespace === true)),
    ...(next ? { next_page: sealPage(app, list, { range, performer, at: next }) } : {}),
  });
}

const positionSchema = () =>
  z.object({
    range: z.object({ startMs: z.int(), endMs: z.int() }),
    performer: z.string().optional(),
    at: z.object({ createdMs: z.int(), id: z.int(), shown: z.int().min(0), page: z.int().min(1) }),
  });

async function answerCounts(app: App, asked: Asked, { scope, withoutServiceKeys }: Shown): Promise<Response> {
  const range = parseLogRange(asked.starttime, asked.endtime, app.clock.nowMs());
  const query = { ...scope, range, performer: asked.performer, withoutServiceKeys: withoutServiceKeys === true };
  const counts = await countLogs(app, query);
  return json(200, {
    aggregated: counts.map(({ kind, count, dayMs }) => ({ kind, count, datetime: httpDate(dayMs) })),
  });
}

const callbackBody = () => z.object({ callback_url: z.string().nullish(), callback_email: z.string().nullish() });
const exportSchema = () => z.strictObject({ export_id: z.uuid() });

/** Whose log is exported, where the link leads to, and who is told. */
async function answerExport(
  context: Pick<ApiContext, "app" | "caller" | "baseUrl" | "origin">,
  asked: Pick<Asked, "starttime" | "endtime">,
  callback: z.infer<ReturnType<typeof callbackBody>>,
  whose: Pick<ExportRequest, "namespace" | "repository">,
): Promise<Response> {
  const { app, caller, baseUrl, origin } = context;
  const exportId = await requestExport(app, caller, {
    ...whose,
    range: () => parseLogRange(asked.starttime, asked.endtime, app.clock.nowMs()),
    callbackUrl: callback.callback_url || undefined,
    callbackEmail: callback.callback_email || undefined,
    baseUrl,
    request: origin(),
  });
  return json(200, { export_id: exportId });
}

const exportsOn = (config: Config) => config.FEATURE_LOG_EXPORT;
const countsOn = (config: Config) => config.FEATURE_AGGREGATED_LOG_COUNT_RETRIEVAL;
const superusersOn = (config: Config) => config.FEATURE_SUPER_USERS;

export const logRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/repository/{repository}/logs",
    summary: "Lists the log of a repository, newest first",
    needs: { repository: "admin" },
    query: pageQuery,
    answers: { 200: logPageSchema },
    handle: ({ app, repository, query }) => answerLogs(app, query, { scope: { repositoryId: repository.id } }),
  }),
  route({
    method: "GET",
    path: "/repository/{repository}/aggregatelogs",
    summary: "Counts the log of a repository by kind and day",
    needs: { repository: "admin" },
    feature: countsOn,
    query: rangeQuery,
    answers: { 200: countsSchema },
    handle: ({ app, repository, query }) => answerCounts(app, query, { scope: { repositoryId: repository.id } }),
  }),
  route({
    method: "GET",
    path: "/user/logs",
    summary: "Lists the log of the caller's namespace, newest first",
    needs: { account: "admin" },
    query: performerPageQuery,
    answers: { 200: logPageSchema },
    handle: ({ app, principal, query }) =>
      answerLogs(app, query, { scope: { namespaceId: principal.accountId }, withoutServiceKeys: true }),
  }),
  route({
    method: "GET",
    path: "/user/aggregatelogs",
    summary: "Counts the log of the caller's namespace by kind and day",
    needs: { account: "admin" },
    feature: countsOn,
    query: performerQuery,
    answers: { 200: countsSchema },
    handle: ({ app, principal, query }) =>
      answerCounts(app, query, { scope: { namespaceId: principal.accountId }, withoutServiceKeys: true }),
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/logs",
    summary: "Lists the log of an organization, newest first",
    needs: { organization: "admin" },
    query: performerPageQuery,
    answers: { 200: logPageSchema },
    handle: ({ app, organization, query }) =>
      answerLogs(app, query, { scope: { namespaceId: organization.account.id }, withoutServiceKeys: true }),
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/aggregatelogs",
    summary: "Counts the log of an organization by kind and day",
    needs: { organization: "admin" },
    feature: countsOn,
    query: performerQuery,
    answers: { 200: countsSchema },
    handle: ({ app, organization, query }) =>
      answerCounts(app, query, { scope: { namespaceId: organization.account.id }, withoutServiceKeys: true }),
  }),
  route({
    method: "POST",
    path: "/repository/{repository}/exportlogs",
    summary: "Has the log of a repository written to a file, and tells when it is there",
    needs: { repository: "admin" },
    feature: exportsOn,
    query: rangeQuery,
    body: callbackBody,
    answers: { 200: exportSchema },
    handle: (context) => {
      const { id, name, namespaceId, namespace } = context.repository;
      const whose = { namespace: { id: namespaceId, name: namespace }, repository: { id, name } };
      return answerExport(context, context.query, context.body, whose);
    },
  }),
  route({
    method: "POST",
    path: "/user/exportlogs",
    summary: "Has the log of the caller's namespace written to a file, and tells when it is there",
    needs: { account: "admin" },
    feature: exportsOn,
    query: rangeQuery,
    body: callbackBody,
    answers: { 200: exportSchema },
    handle: (context) => {
      const { accountId, username } = context.principal;
      return answerExport(context, context.query, context.body, { namespace: { id: accountId, name: username } });
    },
  }),
  route({
    method: "POST",
    path: "/organization/{orgname}/exportlogs",
    summary: "Has the log of an organization written to a file, and tells when it is there",
    needs: { organization: "admin" },
    feature: exportsOn,
    query: rangeQuery,
    body: callbackBody,
    answers: { 200: exportSchema },
    handle: (context) => {
      const { id, username } = context.organization.account;
      return answerExport(context, context.query, context.body, { namespace: { id, name: username } });
    },
  }),
  route({
    method: "GET",
    path: "/superuser/logs",
    summary: "Lists the log of the registry, newest first",
    needs: "superuser",
    freshLogin: true,
    feature: superusersOn,
    query: performerPageQuery,
    answers: { 200: logPageSchema },
    handle: ({ app, query }) => answerLogs(app, query, { scope: {}, withNamespace: true }),
  }),
  route({
    method: "GET",
    path: "/superuser/aggregatelogs",
    summary: "Counts the log of the registry by kind and day",
    needs: "superuser",
    freshLogin: true,
    internal: true,
    feature: (config) => superusersOn(config) && countsOn(config),
    query: performerQuery,
    answers: { 200: countsSchema },
    handle: ({ app, query }) => answerCounts(app, query, { scope: {} }),
  }),
];
