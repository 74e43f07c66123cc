/**
 * The one client for addresses that users supply: webhooks, callbacks, upstreams. It resolves the name, refuses addresses
 * inside the operator's network, connects to exactly the address it checked, checks each redirect again and leaves
 * credentials behind when one leads to another host. Who may be reached although inside is an option.
 */

import { lookup } from "node:dns/promises";
import { RegistryError } from "../errors.ts";
import { contains, formatIp, type IpNumber, isIpv4, type Network, parseIp, parseNetwork } from "./ip-address.ts";

export interface SafeFetchOptions {
  /** Names, addresses and networks (CIDR) that may be reached although they are inside. Quay's SSRF_ALLOWED_HOSTS. */
  readonly allowedHosts: readonly string[];
  /** Authorities to trust instead of the system's, in PEM; asked for with the first request over TLS. */
  readonly authorities?: () => Promise<readonly string[]>;
  /** All addresses of a name; the system's resolver by default. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
}

export interface OutboundRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** http or https, without credentials in it. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  /** For everything: names, redirects and the answer's body. */
  readonly timeoutMs: number;
  /** The answer may be this long, unpacked. */
  readonly answerBytesMax: number;
  /** 0 by default: a redirect is then the answer. */
  readonly redirectsMax?: number;
}

export interface OutboundAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

/**
 * Throws `invalid_request` for a URL that may not be asked for, `external_service_timeout`, or `downstream_issue` with the
 * reason. No message names an address that a name resolved to.
 */
export type SafeFetch = (request: OutboundRequest) => Promise<OutboundAnswer>;

/** What is not the public internet. Sources: IANA's special-purpose address registries. */
const INSIDE_IPV4 = networks(
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
);
/** Of IPv6 only this is given out to the public, and these parts of it lead elsewhere: tunnels, documentation. */
const [PUBLIC_IPV6] = networks("2000::/3");
const INSIDE_IPV6 = networks("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20");

const URL_CHARS_MAX = 4096;
/** Addresses of one name that are tried. */
const ADDRESSES_MAX = 4;
/** Headers that go to another host with a redirect: they say what is sent and wanted, and hold no secret. */
const PLAIN_HEADERS: ReadonlySet<string> = new Set(["accept", "content-type", "user-agent"]);
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** No byte has reached a server after these, so that another address may be tried whatever the method. */
const NOT_CONNECTED: ReadonlySet<string> = new Set(["ConnectionRefused", "FailedToOpenSocket", "ECONNREFUSED"]);

export function createSafeFetch(options: SafeFetchOptions): SafeFetch {
  const allowedNames = new Set(options.allowedHosts.map((host) => host.toLowerCase()));
  const allowedNetworks = options.allowedHosts.map(parseNetwork).filter((network) => network !== undefined);
  const resolve = options.resolve ?? resolveBySystem;

  function mayReach(host: string, address: IpNumber): boolean {
    if (allowedNames.has(host) || allowedNetworks.some((network) => contains(network, address))) return true;
    return !isInside(address);
  }

  async function addressesOf(url: URL, signal: AbortSignal): Promise<IpNumber[]> {
    const host = hostOf(url);
    const literal = parseIp(host);
    const texts = literal === undefined ? await abortable(resolve(host), signal) : [host];
    const addresses = texts.map(parseIp).filter((address) => address !== undefined);
    if (addresses.length === 0) throw new RegistryError("downstream_issue", { message: `no address for "${host}"` });
    const outside = addresses.filter((address) => mayReach(host, address));
    if (outside.length > 0) return outside.slice(0, ADDRESSES_MAX);
    throw new RegistryError("invalid_request", {
      message: `"${host}" is not a public address; the operator may allow it with SSRF_ALLOWED_HOSTS`,
    });
  }

  async function ask(url: URL, request: OutboundRequest, signal: AbortSignal): Promise<Response> {
    const addresses = await addressesOf(url, signal);
    const ca = url.protocol === "https:" ? await options.authorities?.() : undefined;
    const host = hostOf(url);
    for (const [index, address] of addresses.entries()) {
      const pinned = new URL(url);
      pinned.hostname = isIpv4(address) ? formatIp(address) : `[${formatIp(address)}]`;
      try {
        return await fetch(pinned, {
          method: request.method,
          headers: { "user-agent": "berth", ...request.headers, host: url.host },
          ...(request.body === undefined ? {} : { body: request.body }),
          redirect: "manual",
          signal,
          // A connection that is kept is found again by address, and may have been checked for another name.
          keepalive: false,
          tls: {
            ...(ca === undefined || ca.length === 0 ? {} : { ca: [...ca] }),
            ...(parseIp(host) === undefined ? { serverName: host } : {}),
          },
        });
      } catch (error) {
        const code = error instanceof Error && "code" in error ? String(error.code) : "";
        if (!NOT_CONNECTED.has(code) || index + 1 === addresses.length) throw error;
      }
    }
    throw new Error("no address was left to try");
  }

  return async (first) => {
    const signal = AbortSignal.timeout(first.timeoutMs);
    let request = first;
    let url = parseTarget(first.url);
    try {
      for (let redirects = 0; ; redirects++) {
        const response = await ask(url, request, signal);
        const location = response.headers.get("location");
        const follows = REDIRECTS.has(response.status) && location !== null && redirects < (first.redirectsMax ?? 0);
        if (!follows) {
          const body = await readBounded(response, first.answerBytesMax);
          return { status: response.status, headers: response.headers, body };
        }
        await response.body?.cancel();
        const next = parseTarget(new URL(location, url).href);
        request = redirected(request, response.status, url, next);
        url = next;
      }
    } catch (error) {
      if (error instanceof RegistryError) throw error;
      if (signal.aborted) {
        const message = `${url.origin} did not answer within ${first.timeoutMs} ms`;
        throw new RegistryError("external_service_timeout", { message, cause: error });
      }
      throw new RegistryError("downstream_issue", { message: `cannot reach ${url.origin}`, cause: error });
    }
  };
}

/** Throws `invalid_request` unless the text is an http or https URL that carries no credentials. */
export function parseTarget(text: string): URL {
  const url = text.length <= URL_CHARS_MAX && URL.canParse(text) ? new URL(text) : undefined;
  const isWeb = url?.protocol === "http:" || url?.protocol === "https:";
  if (url && isWeb && url.username === "" && url.password === "") return url;
  throw new RegistryError("invalid_request", {
    message: `"${text.slice(0, 100)}" must be an http or https URL without a name and password in it`,
  });
}

/** True for everything but public addresses: loopback, private, link-local (metadata services), mapped, tunnelled. */
export function isInside(address: IpNumber): boolean {
  if (isIpv4(address)) return INSIDE_IPV4.some((network) => contains(network, address));
  if (!PUBLIC_IPV6 || !contains(PUBLIC_IPV6, address)) return true;
  return INSIDE_IPV6.some((network) => contains(network, address));
}

/** What is sent to where a redirect leads. Throws `downstream_issue` when it leads out of TLS. */
function redirected(request: OutboundRequest, status: number, from: URL, to: URL): OutboundRequest {
  if (from.protocol === "https:" && to.protocol !== "https:") {
    throw new RegistryError("downstream_issue", { message: `${from.origin} redirects to a URL without TLS` });
  }
  const { body, ...rest } = request;
  const headers =
    from.origin === to.origin
      ? request.headers
      : Object.fromEntries(
          Object.entries(request.headers ?? {}).filter(([name]) => PLAIN_HEADERS.has(name.toLowerCase())),
        );
  const becomesGet = status === 303 || ((status === 301 || status === 302) && request.method === "POST");
  const kept = { ...rest, ...(headers ? { headers } : {}) };
  if (becomesGet && request.method !== "HEAD") return { ...kept, method: "GET" };
  return body === undefined ? kept : { ...kept, body };
}

/** The host as it is resolved and compared: without brackets, in small letters, without the root's dot. */
function hostOf(url: URL): string {
  return url.hostname
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
}

async function resolveBySystem(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

/** The resolver cannot be stopped; its answer is not waited for longer than the request has. */
async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

async function readBounded(response: Response, bytesMax: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > bytesMax) {
      throw new RegistryError("downstream_issue", { message: `the answer is longer than ${bytesMax} bytes` });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function networks(...texts: string[]): Network[] {
  return texts.map((text) => {
    const network = parseNetwork(text);
    if (!network) throw new Error(`"${text}" is not a network`);
    return network;
  });
}
