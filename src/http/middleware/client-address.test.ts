import { describe, expect, test } from "bun:test";
import { createForwarding } from "./client-address.ts";

type Headers_ = Record<string, string>;

function clientOf(config: { cidr?: string | string[]; count?: number }, peer: string | undefined, headers: Headers_) {
  const forwarding = createForwarding({ TRUSTED_PROXY_CIDR: config.cidr, PROXY_COUNT: config.count });
  const client = forwarding?.clientOf(new Headers(headers), () => peer);
  return client === undefined ? undefined : [client.clientIp, client.scheme];
}

const lan = { cidr: "10.0.0.0/8" };
const both = { cidr: ["10.0.0.0/8", "2001:db8:1::/48"] };
const xff = (value: string) => ({ "x-forwarded-for": value });

describe("which address is the client's", () => {
  const table: [what: string, config: Parameters<typeof clientOf>[0], peer: string, headers: Headers_, ip: string][] = [
    ["a peer that is no proxy", lan, "192.0.2.1", xff("198.51.100.9"), "192.0.2.1"],
    ["a proxy that says nothing", lan, "10.0.0.1", {}, "10.0.0.1"],
    ["a proxy's client", lan, "10.0.0.1", xff("198.51.100.9"), "198.51.100.9"],
    ["a peer in mapped form", lan, "::ffff:10.0.0.1", xff("198.51.100.9"), "198.51.100.9"],
    ["what the client itself wrote before", lan, "10.0.0.1", xff("1.1.1.1, 198.51.100.9"), "198.51.100.9"],
    ["two proxies", lan, "10.0.0.1", xff("198.51.100.9, 10.0.0.2"), "198.51.100.9"],
    ["two proxies and a lie", lan, "10.0.0.1", xff("10.9.9.9, 198.51.100.9,10.0.0.2"), "198.51.100.9"],
    ["a client inside the trusted network", lan, "10.0.0.1", xff("10.0.0.77"), "10.0.0.77"],
    ["one proxy counted", { ...lan, count: 1 }, "10.0.0.1", xff("198.51.100.9, 10.0.0.2"), "10.0.0.2"],
    ["two proxies counted", { ...lan, count: 2 }, "10.0.0.1", xff("1.1.1.1, 198.51.100.9, 10.0.0.2"), "198.51.100.9"],
    ["more counted than believed", { ...lan, count: 5 }, "10.0.0.1", xff("1.1.1.1, 198.51.100.9"), "198.51.100.9"],
    ["fewer entries than counted", { ...lan, count: 3 }, "10.0.0.1", xff("10.0.0.2"), "10.0.0.2"],
    ["an entry with a port", lan, "10.0.0.1", xff("198.51.100.9:4711"), "198.51.100.9"],
    ["IPv6", both, "2001:db8:1::1", xff("2001:DB8:0:0::9"), "2001:db8::9"],
    ["IPv6 with a port", both, "10.0.0.1", xff("[2001:db8::9]:4711"), "2001:db8::9"],
    ["IPv6 in brackets", both, "10.0.0.1", xff("[2001:db8::9]"), "2001:db8::9"],
    ["a mapped entry", both, "10.0.0.1", xff("::ffff:198.51.100.9"), "198.51.100.9"],
    ["a link-local proxy", { cidr: "fe80::/10" }, "fe80::1%eth0", xff("2001:db8::9"), "2001:db8::9"],
    ["a single address as network", { cidr: "10.0.0.1" }, "10.0.0.1", xff("198.51.100.9"), "198.51.100.9"],
    ["an entry that is no address", lan, "10.0.0.1", xff("198.51.100.9, unknown"), "10.0.0.1"],
    ["a name behind a proxy", lan, "10.0.0.1", xff("evil.example, 10.0.0.2"), "10.0.0.2"],
    ["an empty header", lan, "10.0.0.1", xff(""), "10.0.0.1"],
    ["an empty entry", lan, "10.0.0.1", xff(",198.51.100.9"), "198.51.100.9"],
    ["nothing but commas", lan, "10.0.0.1", xff(",,,"), "10.0.0.1"],
    ["Forwarded", lan, "10.0.0.1", { forwarded: "for=198.51.100.9;proto=https;by=10.0.0.1" }, "198.51.100.9"],
    ["Forwarded, IPv6", lan, "10.0.0.1", { forwarded: 'For="[2001:db8::9]:4711"' }, "2001:db8::9"],
    ["Forwarded, two", lan, "10.0.0.1", { forwarded: "for=1.1.1.1, for=198.51.100.9, for=10.0.0.2" }, "198.51.100.9"],
    ["Forwarded, hidden", lan, "10.0.0.1", { forwarded: "for=198.51.100.9, for=_hidden" }, "10.0.0.1"],
    ["Forwarded without for", lan, "10.0.0.1", { forwarded: "proto=https" }, "10.0.0.1"],
    ["Forwarded, broken", lan, "10.0.0.1", { forwarded: 'for="198.51.100.9' }, "10.0.0.1"],
    ["both headers", lan, "10.0.0.1", { ...xff("198.51.100.9"), forwarded: "for=1.1.1.1" }, "198.51.100.9"],
  ];
  test.each(table)("%s", (_what, config, peer, headers, ip) => {
    expect(clientOf(config, peer, headers)?.[0]).toBe(ip);
  });

  test("nobody is believed by default, nor with a count alone or a count of none", () => {
    expect(clientOf({}, "127.0.0.1", xff("1.1.1.1"))).toBeUndefined();
    expect(clientOf({ count: 1 }, "127.0.0.1", xff("1.1.1.1"))).toBeUndefined();
    expect(clientOf({ ...lan, count: 0 }, "10.0.0.1", xff("1.1.1.1"))).toBeUndefined();
  });

  test("without a count the chain still ends", () => {
    const list = Array.from({ length: 1000 }, (_, index) => `10.1.${index >> 8}.${index & 255}`);
    expect(clientOf(lan, "10.0.0.1", xff(list.join(", ")))?.[0]).toBe(list.at(-16) ?? "");
  });

  test("a connection that is gone has none", () => {
    expect(clientOf(lan, undefined, xff("1.1.1.1"))).toEqual([undefined, undefined]);
  });
});

describe("which scheme the client used", () => {
  const proto = (value: string) => ({ "x-forwarded-proto": value });
  const table: [what: string, peer: string, headers: Headers_, scheme: string | undefined][] = [
    ["a trusted proxy says https", "10.0.0.1", proto("https"), "https"],
    ["in capitals", "10.0.0.1", proto("HTTPS"), "https"],
    ["each of two proxies says its own", "10.0.0.1", proto("https, http"), "https"],
    ["anybody says https", "192.0.2.1", proto("https"), undefined],
    ["a proxy says nonsense", "10.0.0.1", proto("javascript"), undefined],
    ["a proxy says nothing", "10.0.0.1", {}, undefined],
    [
      "Forwarded says it of the client",
      "10.0.0.1",
      { forwarded: "for=198.51.100.9;proto=https, for=10.0.0.2;proto=http" },
      "https",
    ],
  ];
  test.each(table)("%s", (_what, peer, headers, scheme) => {
    expect(clientOf(lan, peer, headers)?.[1]).toBe(scheme);
  });
});
