/**
 * Hosts of their own on this machine: network namespaces, each with a wire to this one, on which packets can be dropped in
 * one direction only. A namespace lives as long as the process that holds it and what was started in it, so nothing is left
 * behind. Needs root, iproute2 and nftables.
 */
import { type RunningProcess, runProcess, startProcess } from "./process.ts";
import { requireTool } from "./tools.ts";

/** As `Direction` of the fault proxy: to the server outside, or from it. */
export type DroppedWay = "toServer" | "toClient";

export interface NetHost {
  /** Its own address. */
  readonly address: string;
  /** Program and arguments in front of a command that is to run on it. */
  readonly prefix: readonly string[];
  /** Drops every packet to or from this port of the machine outside, from now on. Nobody is told. */
  drop(port: number, way: DroppedWay): Promise<void>;
  /** All packets pass again. */
  clear(): Promise<void>;
}

export interface Network {
  /** This machine's address as the hosts see it. */
  readonly address: string;
  addHost(): Promise<NetHost>;
  stop(): Promise<void>;
}

/** Why there can be none here, undefined when there can. */
export async function networkProblem(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "network namespaces with a wire to this machine need root";
  try {
    const rules = `${requireTool("nft")} add table inet probe`;
    await runProcess({ command: requireTool("unshare"), args: ["--net", "sh", "-c", rules] });
    return undefined;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // A program that is missing is to be installed, not done without.
    if (reason.includes("apt-get install")) throw error;
    return `network namespaces are not permitted here: ${reason}`;
  }
}

export function openNetwork(): Network {
  const holders: RunningProcess[] = [];
  const ip = (...args: string[]) => runProcess({ command: requireTool("ip"), args });
  const block = addressBlock(process.pid);
  const address = `${block.prefix}.${block.first}`;

  return {
    address,
    async addHost() {
      const index = holders.length + 1;
      if (index >= block.size) throw new Error(`a network has at most ${block.size - 1} hosts`);
      const own = `${block.prefix}.${block.first + index}`;
      const holder = startProcess({
        command: requireTool("unshare"),
        args: ["--net", "sh", "-c", "echo there && exec sleep infinity"],
        name: "holder of a network namespace",
      });
      holders.push(holder);
      await holder.waitForLine(/^there$/, 30_000);
      const prefix = [requireTool("nsenter"), `--net=/proc/${holder.pid}/ns/net`, "--"];
      const inside = ([command = "", ...args]: readonly string[]) =>
        runProcess({ command: prefix[0] ?? "", args: [...prefix.slice(1), requireTool(command), ...args] });
      // Names have 15 characters at most.
      const [outerName, innerName] = [`bo${holder.pid}`, `bi${holder.pid}`];
      await ip("link", "add", outerName, "type", "veth", "peer", "name", innerName, "netns", `${holder.pid}`);
      await ip("address", "add", address, "peer", `${own}/32`, "dev", outerName);
      await ip("link", "set", outerName, "up");
      await inside(["ip", "link", "set", "lo", "up"]);
      await inside(["ip", "address", "add", own, "peer", `${address}/32`, "dev", innerName]);
      await inside(["ip", "link", "set", innerName, "up"]);
      const nft = (rules: string) => inside(["nft", rules]);
      await nft(
        "add table inet fault; add chain inet fault out { type filter hook output priority 0; }; add chain inet fault in { type filter hook input priority 0; }",
      );
      return {
        address: own,
        prefix,
        drop: async (port, way) => {
          const rule = way === "toServer" ? `out tcp dport ${port}` : `in tcp sport ${port}`;
          await nft(`add rule inet fault ${rule} drop`);
        },
        clear: async () => {
          await nft("flush table inet fault");
        },
      };
    },
    async stop() {
      await Promise.all(holders.map((holder) => holder.kill()));
    },
  };
}

/** Eight addresses that no other test process has now: made of this one's id. */
function addressBlock(pid: number): { prefix: string; first: number; size: number } {
  return { prefix: `10.${128 + ((pid >> 13) & 127)}.${(pid >> 5) & 255}`, first: (pid & 31) * 8, size: 8 };
}
