import { describe, expect, test } from "bun:test";
import { contains, formatIp, isIpv4, parseIp, parseNetwork } from "./ip-address.ts";

function same(text: string): string | undefined {
  const address = parseIp(text);
  return address === undefined ? undefined : formatIp(address);
}

describe("an address", () => {
  const spellings: [text: string, usual: string | undefined][] = [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::FFFF:c000:207", "192.0.2.7"],
    ["0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"],
    ["0.0.0.0", "0.0.0.0"],
    ["::", "::"],
    ["::1", "::1"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["fe80::", "fe80::"],
    ["64:ff9b::192.0.2.7", "64:ff9b::c000:207"],
    ["192.0.2", undefined],
    ["192.0.2.256", undefined],
    ["192.0.2.07", undefined],
    ["fe80::1%eth0", undefined],
    ["[::1]", undefined],
    ["::1::", undefined],
    ["", undefined],
    ["example.org", undefined],
  ];
  test.each(spellings)("%p is %p", (text, usual) => {
    expect(same(text)).toBe(usual);
  });

  test("is of its family whatever its spelling", () => {
    expect(["192.0.2.7", "::ffff:192.0.2.7", "::192.0.2.7", "::1"].map((text) => isIpv4(parseIp(text) ?? 0n))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

describe("a network", () => {
  const table: [network: string, inside: string[], outside: string[]][] = [
    ["10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["9.255.255.255", "11.0.0.0", "::1", "::a00:1"]],
    ["192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.6", "192.0.2.8"]],
    ["192.0.2.6/31", ["192.0.2.6", "192.0.2.7"], ["192.0.2.5", "192.0.2.8"]],
    ["0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "2001:db8::1"]],
    ["::/0", ["::1", "2001:db8::1", "192.0.2.7"], []],
    ["2001:db8::/32", ["2001:db8::1", "2001:db8:ffff::"], ["2001:db7:ffff::", "2001:db9::"]],
    ["::1", ["::1"], ["::2", "127.0.0.1"]],
    ["::ffff:10.0.0.0/104", ["10.1.2.3"], ["11.0.0.0"]],
  ];
  test.each(table)("%p holds %p and not %p", (text, inside, outside) => {
    const network = parseNetwork(text);
    if (!network) throw new Error(`"${text}" is no network`);
    const holds = (address: string) => contains(network, parseIp(address) ?? -1n);
    expect(inside.filter((address) => !holds(address))).toEqual([]);
    expect(outside.filter(holds)).toEqual([]);
  });

  test("that is none is refused", () => {
    const wrong = [
      "",
      "10.0.0.0/33",
      "10.0.0.0/",
      "10.0.0.0/-1",
      "10.0.0.0/8/8",
      "10.0.0.1/8",
      "::/129",
      "::1/64",
      "a/8",
    ];
    expect(wrong.filter((text) => parseNetwork(text) !== undefined)).toEqual([]);
  });
});
