/** The `WWW-Authenticate` challenge of /v2: where to get a token and for what. Source: quay-api reference, section 18. */

import type { Config } from "../../config/schema.ts";
import type { V2Route } from "../../oci/path.ts";
import type { Client } from "../context.ts";

/** Audience of tokens where no SERVER_HOSTNAME is set: clients repeat what the challenge says. */
const SERVICE_DEFAULT = "berth";

/** What tokens are for: SERVER_HOSTNAME. */
export function audienceOf(config: Config): string {
  return config.SERVER_HOSTNAME ?? SERVICE_DEFAULT;
}

/**
 * Root of this registry's URLs. Without SERVER_HOSTNAME it is whatever name the client used, so that the embedded default
 * works by any address, and the scheme it used where a trusted proxy knows it.
 */
export function baseUrl(config: Config, request: Request, client?: Client): string {
  if (config.SERVER_HOSTNAME !== undefined) return `${config.PREFERRED_URL_SCHEME}://${config.SERVER_HOSTNAME}`;
  const { origin, host } = new URL(request.url);
  return client?.scheme === undefined ? origin : `${client.scheme}://${host}`;
}

/**
 * The scope is named whether or not the repository exists: it is the client's own words. `further` is one more scope that
 * the request needs.
 */
export function challengeOf(
  config: Config,
  input: { readonly request: Request; readonly client: Client },
  route: V2Route | undefined,
  further: string | undefined,
): string {
  const { request } = input;
  let challenge = `Bearer realm="${baseUrl(config, request, input.client)}/v2/auth",service="${audienceOf(config)}"`;
  const name = route && "name" in route ? route.name : undefined;
  // Only what can stand between quotes: another name is refused anyway.
  if (name !== undefined && /^[a-z0-9._/-]+$/.test(name)) {
    const scope = `repository:${name}:${actionsFor(request.method)}`;
    challenge += `,scope="${further === undefined ? scope : `${scope} ${further}`}"`;
  }
  return challenge;
}

function actionsFor(method: string): string {
  if (method === "GET" || method === "HEAD") return "pull";
  return method === "DELETE" ? "pull,push,delete" : "pull,push";
}
