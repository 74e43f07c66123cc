/** Addresses to listen on: from `--listen`, or from the config's IP version and the product's ports. */

import { UsageError } from "./invocation.ts";

export interface ListenAddress {
  /** Without brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly ipv6Only: boolean;
}

export type IpVersion = "IPv4" | "IPv6" | "dual-stack";

/** Every address of the family: "::" takes IPv4 too unless it is told not to. */
export function defaultAddress(version: IpVersion, port: number): ListenAddress {
  if (version === "IPv4") return { hostname: "0.0.0.0", port, ipv6Only: false };
  return { hostname: "::", port, ipv6Only: version === "IPv6" };
}

/**
 * Reads `ADDR:PORT`, `[::]:PORT`, `:PORT` or `PORT`. Without an address it is the config's family. Throws UsageError for
 * anything else.
 */
export function parseListenAddress(text: string, version: IpVersion): ListenAddress {
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^[\]:]*)):)?([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? Number.NaN);
  if (!match || port > 65_535) {
    throw new UsageError(`"${text}" is no address to listen on, write it as 127.0.0.1:8080, [::]:8080 or :8080`);
  }
  const hostname = match[1] ?? match[2] ?? "";
  if (hostname === "") return defaultAddress(version, port);
  return { hostname, port, ipv6Only: hostname === "::" && version === "IPv6" };
}
