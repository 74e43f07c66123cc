/**
 * IP addresses and networks as numbers, so that every spelling of an address is the same one. IPv4 stands in its IPv6-mapped
 * form (::ffff:a.b.c.d): a dual-stack socket shows IPv4 clients so.
 */
import { isIP } from "node:net";

/** Sixteen bytes as one number. */
export type IpNumber = bigint;

export interface Network {
  /** With every bit after the prefix cleared. */
  readonly base: IpNumber;
  readonly prefixBits: number;
}

const ALL_BITS = 128;
/** Bits of a mapped IPv4 address before the IPv4 part. */
const MAPPED_BITS = 96;
const MAPPED_PREFIX = 0xffffn;

/** An address in any spelling, without brackets, port and zone; undefined when it is none. */
export function parseIp(text: string): IpNumber | undefined {
  const family = isIP(text);
  if (family === 0 || text.includes("%")) return undefined;
  return family === 4 ? (MAPPED_PREFIX << 32n) | parseIpv4(text) : parseIpv6(text);
}

/** True for IPv4, mapped or not. */
export function isIpv4(address: IpNumber): boolean {
  return address >> 32n === MAPPED_PREFIX;
}

/** The usual spelling: dotted for IPv4, RFC 5952 for IPv6. */
export function formatIp(address: IpNumber): string {
  if (isIpv4(address)) {
    return [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 0xffn).join(".");
  }
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((address >> BigInt(112 - 16 * index)) & 0xffffn).toString(16),
  );
  const { start, length } = longestZeros(groups);
  if (length < 2) return groups.join(":");
  return `${groups.slice(0, start).join(":")}::${groups.slice(start + length).join(":")}`;
}

/** `10.0.0.0/8`, `2001:db8::/32`, or one address; undefined when it is none, or has bits set after its prefix. */
export function parseNetwork(text: string): Network | undefined {
  const [addressText = "", prefixText, ...more] = text.split("/");
  const address = parseIp(addressText);
  if (address === undefined || more.length > 0) return undefined;
  const familyBits = isIP(addressText) === 4 ? 32 : ALL_BITS;
  if (prefixText !== undefined && !/^\d{1,3}$/.test(prefixText)) return undefined;
  const prefix = prefixText === undefined ? familyBits : Number(prefixText);
  if (prefix > familyBits) return undefined;
  const prefixBits = prefix + (familyBits === 32 ? MAPPED_BITS : 0);
  return firstOf(address, prefixBits) === address ? { base: address, prefixBits } : undefined;
}

export function contains(network: Network, address: IpNumber): boolean {
  return firstOf(address, network.prefixBits) === network.base;
}

/** The first address of the network of that size around an address. */
export function firstOf(address: IpNumber, prefixBits: number): IpNumber {
  const hostBits = BigInt(ALL_BITS - prefixBits);
  return (address >> hostBits) << hostBits;
}

function parseIpv4(text: string): bigint {
  return text.split(".").reduce((number, part) => (number << 8n) | BigInt(part), 0n);
}

/** Of a text that `isIP` took for IPv6. */
function parseIpv6(text: string): bigint {
  const lastColon = text.lastIndexOf(":");
  const tail = text.slice(lastColon + 1);
  if (tail.includes(".")) {
    const ipv4 = parseIpv4(tail);
    return parseIpv6(`${text.slice(0, lastColon + 1)}${(ipv4 >> 16n).toString(16)}:${(ipv4 & 0xffffn).toString(16)}`);
  }
  const [head = "", rest] = text.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = rest === undefined || rest === "" ? [] : rest.split(":");
  const groups = [...before, ...Array(8 - before.length - after.length).fill("0"), ...after];
  return groups.reduce((number: bigint, group: string) => (number << 16n) | BigInt(`0x${group}`), 0n);
}

function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === "0") length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
