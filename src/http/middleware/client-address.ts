/**
 * Who the client is behind proxies: whose address is logged, audited and limited, and which scheme it used. A header is
 * believed as far as the proxies that wrote it are in TRUSTED_PROXY_CIDR; by default none is.
 */
import type { Config } from "../../config/schema.ts";
import { contains, formatIp, type IpNumber, type Network, parseIp, parseNetwork } from "../../lib/ip-address.ts";
import type { Client } from "../context.ts";

/** Proxies one behind the other that are believed when PROXY_COUNT does not say how many there are. */
const HOPS_MAX = 16;

interface Hop {
  readonly address: IpNumber;
  readonly scheme: string | undefined;
}

export interface Forwarding {
  /** The client of a request that came from `peer`. Nothing is computed before it is asked for. */
  clientOf(headers: Headers, peer: () => string | undefined): Client;
}

/** Undefined when no proxy is trusted: then the peer is the client. */
export function createForwarding(config: Pick<Config, "TRUSTED_PROXY_CIDR" | "PROXY_COUNT">): Forwarding | undefined {
  const trusted = [config.TRUSTED_PROXY_CIDR ?? []].flat().map(networkOf);
  const hopsMax = config.PROXY_COUNT ?? HOPS_MAX;
  if (trusted.length === 0 || hopsMax === 0) return undefined;
  const isTrusted = (address: IpNumber) => trusted.some((network) => contains(network, address));

  function resolve(headers: Headers, peer: string | undefined): { ip: string | undefined; scheme: string | undefined } {
    // A link-local peer comes with the name of its interface.
    const peerAddress = peer === undefined ? undefined : parseIp(peer.replace(/%.*$/, ""));
    if (peerAddress === undefined || !isTrusted(peerAddress)) return { ip: peer, scheme: undefined };
    let client: Hop = { address: peerAddress, scheme: undefined };
    let hops = 0;
    // From the nearest proxy outwards. What stands left of the first hop that is not trusted was written by anybody.
    for (const hop of hopsOf(headers)) {
      client = hop;
      if (++hops === hopsMax || !isTrusted(hop.address)) break;
    }
    const named = headers.get("x-forwarded-proto")?.split(",", 1)[0]?.trim().toLowerCase() ?? client.scheme;
    return { ip: formatIp(client.address), scheme: named };
  }

  return {
    clientOf(headers, peer) {
      let known: ReturnType<typeof resolve> | undefined;
      const answer = () => {
        known ??= resolve(headers, peer());
        return known;
      };
      return {
        get clientIp() {
          return answer().ip;
        },
        get scheme() {
          const { scheme } = answer();
          return scheme === "http" || scheme === "https" ? scheme : undefined;
        },
      };
    },
  };
}

function networkOf(text: string): Network {
  const network = parseNetwork(text);
  // The config's schema has looked at it.
  if (!network) throw new Error(`"${text}" is no network`);
  return network;
}

/**
 * The addresses that proxies noted, the nearest first, up to the first that is none. X-Forwarded-For, which is what proxies
 * write; Forwarded (RFC 7239) where it is missing.
 */
function* hopsOf(headers: Headers): Generator<Hop> {
  const list = headers.get("x-forwarded-for");
  const entries = list ?? headers.get("forwarded") ?? "";
  const parse = list === null ? parseForwarded : parseNode;
  for (let end = entries.length; end >= 0; ) {
    const comma = entries.lastIndexOf(",", end - 1);
    const start = end === 0 ? -1 : comma;
    const hop = parse(entries.slice(start + 1, end).trim());
    if (hop === undefined) return;
    yield hop;
    end = start;
  }
}

/** `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::7`, `[2001:db8::7]:4711`. */
function parseNode(text: string): Hop | undefined {
  const bare = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(text)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(text)?.[1] ?? text;
  const address = parseIp(bare);
  return address === undefined ? undefined : { address, scheme: undefined };
}

/** `for="[2001:db8::7]:4711";proto=https;by=…`. Obfuscated names (`for=_hidden`) are no addresses and end the chain. */
function parseForwarded(text: string): Hop | undefined {
  const parts = new Map<string, string>();
  for (const part of text.split(";")) {
    const [, name, quoted, plain] = /^\s*([A-Za-z]+)=(?:"([^"\\]*)"|([^"\s]*))\s*$/.exec(part) ?? [];
    if (name === undefined) return undefined;
    parts.set(name.toLowerCase(), quoted ?? plain ?? "");
  }
  const hop = parseNode(parts.get("for") ?? "");
  return hop && { address: hop.address, scheme: parts.get("proto")?.toLowerCase() };
}
