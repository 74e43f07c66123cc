/**
 * Packets that are lost on the wire between an instance's host and its database or store, in one direction or both: TCP says
 * nothing, and what was sent may arrive when it sends it again.
 */
import type { Random } from "../crash/random.ts";
import type { DroppedWay, NetHost } from "../support/net-namespace.ts";
import type { Fault } from "./run.ts";
import type { FaultySite } from "./start.ts";

const ways: Readonly<Record<string, readonly DroppedWay[]>> = {
  "to the": ["toServer"],
  "from the": ["toClient"],
  "to and from the": ["toServer", "toClient"],
};

/** Longer than it takes to hold a silent database for dead, or a little hiccup. */
async function forAWhile(random: Random): Promise<void> {
  await Bun.sleep(random.chance(0.4) ? random.between(300, 2000) : random.between(8_000, 11_000));
}

export function partitionFaults({ hosts, database, store }: FaultySite): Fault[] {
  const partition = (name: string, struck: readonly NetHost[], port: number, lost: readonly DroppedWay[]): Fault => ({
    name: `partition: ${name}`,
    strike: async (random) => {
      for (const host of struck) for (const way of lost) await host.drop(port, way);
      await forAWhile(random);
      for (const host of struck) await host.clear();
    },
  });
  const [first] = hosts;
  if (!first) return [];
  const all = hosts.length > 1 ? "every instance" : "the instance";
  const found: Fault[] = [];
  for (const [direction, lost] of Object.entries(ways)) {
    found.push(partition(`${direction} database, ${all}`, hosts, database.proxy.port, lost));
    if (store) found.push(partition(`${direction} store, ${all}`, hosts, store.proxy.port, lost));
    if (hosts.length === 1) continue;
    found.push(partition(`${direction} database, one instance`, [first], database.proxy.port, lost));
    if (store) found.push(partition(`${direction} store, one instance`, [first], store.proxy.port, lost));
  }
  return found;
}
