/** The servers that are measured, all behind one shape: Berth and its peers, each on an empty store of its own. */
import { type BerthOptions, startBerth } from "../support/berth.ts";
import { type DockerRegistryOptions, type PeerServer, startDockerRegistry } from "../support/docker-registry.ts";
import { findGoTool } from "../support/go-tools.ts";
import type { Memory } from "../support/process.ts";
import { RegistryClient } from "../support/registry-client.ts";
import { startZot } from "../support/zot.ts";

export interface BenchServer {
  readonly name: string;
  readonly url: string;
  readonly client: RegistryClient;
  /** Of Berth's user `admin`; peers have none. */
  readonly adminPassword?: string;
  memory(): Memory;
  resetPeak(): void;
  stop(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  /** What it does about authentication and durability: a figure means nothing without it. */
  readonly note: string;
  start(): Promise<BenchServer>;
}

/** The namespace of Berth's zero-config superuser; the peers take any name. */
export const namespace = "admin";

const dockerRegistryNote = "no authentication; fsyncs each file it writes, not the directories (seen with strace)";

export const berth: Contender = {
  name: "berth",
  note: "bearer token; every blob hashed, fsynced with its directory, metadata fsynced before the answer",
  start: () => startBerthServer(),
};

/** Berth under another name and with options, to be held against itself or a peer. */
export function berthWith(name: string, options: () => Promise<BerthOptions> | BerthOptions): Contender {
  return { name, note: berth.note, start: async () => ({ ...(await startBerthServer(await options())), name }) };
}

/** Debian's docker-registry with options. */
export function dockerRegistryWith(options: () => Promise<DockerRegistryOptions>): Contender {
  const name = "docker-registry";
  return { name, note: dockerRegistryNote, start: async () => peer(name, await startDockerRegistry(await options())) };
}

/** Berth with options, for workloads that seed its database or restart it. */
export async function startBerthServer(options: BerthOptions = {}): Promise<BenchServer & { dataDir: string }> {
  const server = await startBerth(options);
  return {
    name: "berth",
    url: server.url,
    dataDir: server.dataDir,
    client: new RegistryClient({ url: server.url, username: "admin", password: server.adminPassword }),
    adminPassword: server.adminPassword,
    memory: () => server.memory(),
    resetPeak: () => server.resetPeak(),
    stop: () => server.stop(),
  };
}

export interface PeerChoice {
  contenders: Contender[];
  /** Peers that were asked for and cannot run, with the reason. */
  missing: string[];
}

/** Looks for the peers asked for, in that order. Throws for a name that is none. */
export async function findPeers(names: readonly string[]): Promise<PeerChoice> {
  const choice: PeerChoice = { contenders: [], missing: [] };
  for (const name of names) {
    if (name === "docker-registry") {
      choice.contenders.push(dockerRegistryWith(async () => ({})));
    } else if (name === "zot") {
      const found = await findGoTool("zot");
      if (found.kind === "missing") {
        choice.missing.push(`zot: ${found.reason.replaceAll(/\s+/g, " ").trim()}`);
        continue;
      }
      const note = "no authentication; storage.commit on (fsync), dedupe and gc off";
      choice.contenders.push({ name, note, start: async () => peer(name, await startZot(found.path)) });
    } else {
      throw new Error(`--peers names "${name}"; known are docker-registry and zot`);
    }
  }
  return choice;
}

function peer(name: string, server: PeerServer): BenchServer {
  return {
    name,
    url: server.url,
    client: new RegistryClient({ url: server.url }),
    memory: () => server.process.memory(),
    resetPeak: () => server.process.resetPeak(),
    stop: () => server.stop(),
  };
}
