/**
 * Request limits (FEATURE_RATE_LIMITS), before any credential is looked at: zones, rates and bursts of Quay's nginx. Source:
 * quay-behaviour reference, section 19. Each process counts for itself, as each nginx does.
 */
import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { firstOf, formatIp, isIpv4, parseIp } from "../../lib/ip-address.ts";
import { LeakyBuckets } from "../../lib/leaky-buckets.ts";
import type { V2Route } from "../../oci/path.ts";
import { sessionTokenOf } from "../auth/session.ts";
import type { Client } from "../context.ts";

type Zone = "token" | "api" | "manifests" | "blobs" | "tags" | "other";

const RATES: Record<Zone, { ratePerSecond: number; burst: number }> = {
  // The reference names no burst here; Quay's nginx has 2, for clients that fetch tokens of several scopes at once.
  token: { ratePerSecond: 30, burst: 2 },
  api: { ratePerSecond: 5, burst: 25 },
  manifests: { ratePerSecond: 50, burst: 10 },
  blobs: { ratePerSecond: 50, burst: 50 },
  tags: { ratePerSecond: 5, burst: 2 },
  other: { ratePerSecond: 60, burst: 20 },
};

const ZONE_OF: Record<V2Route["kind"], Zone> = {
  token: "token",
  manifest: "manifests",
  blob: "blobs",
  // Below /blobs/ as well, so in that zone of nginx.
  "upload-start": "blobs",
  upload: "blobs",
  tags: "tags",
  base: "other",
  catalog: "other",
  referrers: "other",
  unknown: "other",
};

/** Buckets for each zone: some 3 MB each when full, and as many clients as one process serves in a second many times over. */
const KEYS_MAX = 20_000;
/** A customer's network in IPv6: whoever has one has all its addresses. RFC 6177. */
const IPV6_CLIENT_BITS = 64;

export interface RateLimiter {
  /** Throws `too_many_requests` with Retry-After. Namespaces of NON_RATE_LIMITED_NAMESPACES are not counted. */
  requireV2(request: Request, client: Client, route: V2Route): void;
  /** The same for /api. A browser is known by its session cookie. */
  requireApi(request: Request, client: Client): void;
}

/** Undefined when FEATURE_RATE_LIMITS is off: then nothing is counted. */
export function createRateLimiter(app: Pick<App, "config" | "clock" | "secretKey">): RateLimiter | undefined {
  const { config, clock } = app;
  if (!config.FEATURE_RATE_LIMITS) return undefined;
  const exempt = new Set(config.NON_RATE_LIMITED_NAMESPACES);
  const buckets = new Map(
    (Object.keys(RATES) as Zone[]).map((zone) => [zone, new LeakyBuckets({ ...RATES[zone], keysMax: KEYS_MAX })]),
  );
  // Nobody outside knows it, so nobody can look for credentials that share a stranger's bucket.
  const seed = crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;

  /**
   * Each credential has a bucket, and whoever sends none shares that of the address: behind one address there may be a
   * whole company. Credentials are not checked yet, and checking is what has to be protected, so one that is new is
   * counted for its address too: inventing them does not help.
   */
  function take(zone: Zone, credential: string | undefined, client: Client): void {
    const zoneBuckets = buckets.get(zone);
    if (!zoneBuckets) return;
    const nowMs = clock.nowMs();
    const own = credential === undefined ? undefined : `c${Bun.hash.wyhash(credential, seed).toString(36)}`;
    if (own === undefined || !zoneBuckets.has(own)) refuse(zoneBuckets.take(`a${clientKey(client.clientIp)}`, nowMs));
    if (own !== undefined) refuse(zoneBuckets.take(own, nowMs));
  }

  return {
    requireV2(request, client, route) {
      if (exempt.size > 0 && "name" in route) {
        const slash = route.name.indexOf("/");
        if (exempt.has(slash === -1 ? config.LIBRARY_NAMESPACE : route.name.slice(0, slash))) return;
      }
      take(ZONE_OF[route.kind], request.headers.get("authorization") ?? undefined, client);
    },
    requireApi(request, client) {
      take("api", request.headers.get("authorization") ?? sessionTokenOf(app, request), client);
    },
  };
}

function refuse(waitMs: number): void {
  if (waitMs <= 0) return;
  const seconds = Math.ceil(waitMs / 1000);
  throw new RegistryError("too_many_requests", {
    message: `too many requests, try again in ${seconds} s`,
    headers: { "Retry-After": String(seconds) },
  });
}

/** An IPv4 address, or the network of an IPv6 one. */
function clientKey(ip: string | undefined): string {
  const address = parseIp(ip?.replace(/%.*$/, "") ?? "");
  if (address === undefined) return ip ?? "";
  return isIpv4(address) ? formatIp(address) : formatIp(firstOf(address, IPV6_CLIENT_BITS));
}
