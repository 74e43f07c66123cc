/**
 * /keys/services: the public keys of services, and how services bring, replace and withdraw their own without a log-in.
 * Source: quay-api reference, section 17; quay-behaviour, section 20.
 */

import type { App } from "../app.ts";
import { readonly } from "../domain/access/require.ts";
import { findKey, listTrustedKeys, type ServiceKey } from "../domain/service-key/queries.ts";
import { type Proof, submitKey, withdrawKey } from "../domain/service-key/submitted.ts";
import { RegistryError } from "../errors.ts";
import { errorFields } from "../observe/logger.ts";
import { renderMessage } from "./api/errors.ts";
import { type Client, requestOrigin, splitUrl } from "./context.ts";
import { readBody } from "./registry/body.ts";
import { baseUrl } from "./registry/challenge.ts";
import { toRegistryError } from "./registry/errors.ts";

const PATH = /^\/keys\/services\/([^/]+)\/keys(?:\/([^/]+))?$/;
const BODY_BYTES_MAX = 64 * 1024;
/** Keys of one service that are published; more than a few that live at once is a mistake. */
const PUBLISHED_MAX = 100;
const CACHED_SECONDS_MAX = 24 * 3600;

/** The answer under /keys/services. It never throws. */
export async function keysRoute(app: App, request: Request, client: Client): Promise<Response> {
  try {
    return await answer(app, request, client);
  } catch (thrown) {
    const error = toRegistryError(thrown);
    if (thrown !== error) app.log.error("request failed", { path: "/keys/services", ...errorFields(thrown) });
    return renderMessage(thrown === error ? error : new RegistryError("unavailable", { message: "not now" }));
  }
}

async function answer(app: App, request: Request, client: Client): Promise<Response> {
  const { path, query } = splitUrl(request.url);
  const found = PATH.exec(path);
  if (!found) throw notFound();
  const service = decode(found[1] ?? "");
  const isRead = request.method === "GET" || request.method === "HEAD";
  if (found[2] === undefined) {
    if (!isRead) throw methodNotAllowed("GET, HEAD");
    const keys = await listTrustedKeys(app.db, service, app.clock.nowMs(), PUBLISHED_MAX);
    return Response.json({ keys: keys.map(jwkOf) });
  }
  const kid = decode(found[2]);
  if (isRead) return showKey(app, service, kid);
  if (request.method !== "PUT" && request.method !== "DELETE") throw methodNotAllowed("GET, HEAD, PUT, DELETE");
  if (app.config.REGISTRY_STATE === "readonly") throw readonly();
  const proof: Proof = { jwt: tokenOf(request), audience: baseUrl(app.config, request, client) };
  const origin = requestOrigin(request, client);
  if (request.method === "DELETE") {
    await withdrawKey(app, origin, { service, kid, ...proof });
    return new Response(null, { status: 204 });
  }
  const parameters = new URLSearchParams(query);
  const expires = numberOf(parameters, "expiration");
  const outcome = await submitKey(app, origin, {
    service,
    kid,
    ...proof,
    jwk: await readJson(request),
    expiresMs: expires === undefined ? undefined : Math.floor(expires * 1000),
    rotationSeconds: numberOf(parameters, "rotation"),
  });
  return new Response(null, { status: outcome === "waiting" ? 202 : 200 });
}

async function showKey(app: App, service: string, kid: string): Promise<Response> {
  const key = await findKey(app.db, kid);
  if (key?.service !== service) throw notFound();
  if (!key.approval) throw new RegistryError("conflict", { message: `the key "${kid}" has not been approved` });
  const leftMs = (key.expiresMs ?? Number.POSITIVE_INFINITY) - app.clock.nowMs();
  if (leftMs <= 0) throw new RegistryError("denied", { message: `the key "${kid}" has expired` });
  const seconds = Math.min(CACHED_SECONDS_MAX, Math.floor(leftMs / 1000));
  return Response.json(jwkOf(key), { headers: { "Cache-Control": `max-age=${seconds}` } });
}

function jwkOf({ jwk, kid }: ServiceKey) {
  return { ...jwk, kid };
}

/** The bearer token. Throws `invalid_request` without one, as Quay does. */
function tokenOf(request: Request): string {
  const match = /^bearer +(\S{1,16384}) *$/i.exec(request.headers.get("authorization") ?? "");
  if (match?.[1]) return match[1];
  throw new RegistryError("invalid_request", {
    message: "A JWT is needed as bearer token in the Authorization header",
  });
}

function numberOf(parameters: URLSearchParams, name: string): number | undefined {
  const text = parameters.get(name);
  if (text === null || text === "") return undefined;
  const value = Number(text);
  if (Number.isFinite(value)) return value;
  throw new RegistryError("invalid_request", { message: `the query parameter "${name}" must be a number of seconds` });
}

async function readJson(request: Request): Promise<unknown> {
  const text = new TextDecoder().decode(await readBody(request, BODY_BYTES_MAX));
  try {
    return JSON.parse(text);
  } catch {
    throw new RegistryError("invalid_request", { message: "The body must be a JWK as JSON" });
  }
}

function decode(part: string): string {
  try {
    const text = decodeURIComponent(part);
    if (!text.includes("\u0000")) return text;
  } catch {
    // A broken escape names nothing.
  }
  throw notFound();
}

function notFound(): RegistryError {
  return new RegistryError("not_found", { message: "there is no such key" });
}

function methodNotAllowed(allowed: string): RegistryError {
  return new RegistryError("method_not_allowed", { message: `use ${allowed}`, headers: { Allow: allowed } });
}
