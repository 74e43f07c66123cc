/** Addresses to listen on: from `--listen`, or from the config's IP version and the product's ports. */

import type { LoadedConfig } from "../config/load.ts";
import { type Invocation, UsageError } from "./invocation.ts";
import { text } from "./load.ts";

export interface ListenAddress {
  /** Without brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly ipv6Only: boolean;
}

export type IpVersion = "IPv4" | "IPv6" | "dual-stack";

/** As Quay's container has them. */
const HTTP_PORT = 8080;
const HTTPS_PORT = 8443;
const METRICS_PORT = 9091;

/** Where `serve` with these options and this config takes requests. Throws UsageError. */
export function mainAddress({ options }: Pick<Invocation, "options">, { config, tls }: LoadedConfig): ListenAddress {
  const version = config.FEATURE_LISTEN_IP_VERSION;
  const given = text(options.listen);
  if (given === "off") throw new UsageError("--listen cannot be off");
  if (given !== undefined) return parseListenAddress(given, version);
  return defaultAddress(version, tls ? HTTPS_PORT : HTTP_PORT);
}

/** Where it gives its metrics, undefined for nowhere. Throws UsageError. */
export function metricsAddressOf(
  { options }: Pick<Invocation, "options">,
  { config }: LoadedConfig,
): ListenAddress | undefined {
  const version = config.FEATURE_LISTEN_IP_VERSION;
  const given = text(options["metrics-listen"]);
  if (given === "off") return undefined;
  return given === undefined ? defaultAddress(version, METRICS_PORT) : parseListenAddress(given, version);
}

/** The address at which this machine reaches itself there. */
export function localUrl({ hostname, port, ipv6Only }: ListenAddress, scheme: "http" | "https"): string {
  const isEvery = hostname === "::" || hostname === "0.0.0.0";
  const host = isEvery ? (ipv6Only ? "::1" : "127.0.0.1") : hostname;
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Every address of the family: "::" takes IPv4 too unless it is told not to. */
function defaultAddress(version: IpVersion, port: number): ListenAddress {
  if (version === "IPv4") return { hostname: "0.0.0.0", port, ipv6Only: false };
  return { hostname: "::", port, ipv6Only: version === "IPv6" };
}

/**
 * Reads `ADDR:PORT`, `[::]:PORT`, `:PORT` or `PORT`. Without an address it is the config's family. Throws UsageError for
 * anything else.
 */
function parseListenAddress(text: string, version: IpVersion): ListenAddress {
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^[\]:]*)):)?([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? Number.NaN);
  if (!match || port > 65_535) {
    throw new UsageError(`"${text}" is no address to listen on, write it as 127.0.0.1:8080, [::]:8080 or :8080`);
  }
  const hostname = match[1] ?? match[2] ?? "";
  if (hostname === "") return defaultAddress(version, port);
  return { hostname, port, ipv6Only: hostname === "::" && version === "IPv6" };
}
