/**
 * Debian's docker-registry (CNCF distribution 2.8) on a local directory: the peer of the benchmarks and the upstream of
 * mirror tests. No redirects, deletion on, no authentication unless a user is given.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listeningPorts, type RunningProcess, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface PeerServer {
  readonly url: string;
  /** `127.0.0.1:PORT`, as image names have it. */
  readonly host: string;
  readonly dataDir: string;
  readonly process: RunningProcess;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
}

export interface DockerRegistryOptions {
  /** Asks for these credentials (htpasswd, bcrypt) when given. */
  user?: { name: string; password: string };
}

const startTimeoutMs = 10_000;

/** Starts it on a free port of 127.0.0.1 with an empty store. Throws when the program is not installed. */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<PeerServer> {
  const command = requireTool("docker-registry");
  const dir = makeTempDir("docker-registry");
  const dataDir = join(dir.path, "data");
  mkdirSync(dataDir);
  const config: Record<string, unknown> = {
    version: "0.1",
    log: { level: "warn", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: dataDir }, delete: { enabled: true }, redirect: { disable: true } },
    http: { addr: "127.0.0.1:0" },
  };
  if (options.user !== undefined) {
    const path = join(dir.path, "htpasswd");
    const hash = await Bun.password.hash(options.user.password, { algorithm: "bcrypt", cost: 5 });
    writeFileSync(path, `${options.user.name}:${hash}\n`);
    config.auth = { htpasswd: { realm: "upstream", path } };
  }
  // JSON is YAML: no writer needed
  writeFileSync(join(dir.path, "config.yml"), JSON.stringify(config));
  const process = startProcess({
    command,
    args: ["serve", join(dir.path, "config.yml")],
    cwd: dir.path,
    env: { OTEL_TRACES_EXPORTER: "none" },
    name: "docker-registry",
  });
  const url = `http://127.0.0.1:${await waitForPort(process)}`;
  await process.waitForUrl(`${url}/v2/`);
  return {
    url,
    host: url.slice("http://".length),
    dataDir,
    process,
    stop: async () => {
      await process.stop();
      dir.remove();
    },
  };
}

/** The port the server took for itself; at the level it logs at, it does not say. */
async function waitForPort(process: RunningProcess): Promise<number> {
  const deadline = performance.now() + startTimeoutMs;
  for (;;) {
    const port = listeningPorts(process.pid)[0];
    if (port !== undefined) return port;
    if (process.hasExited() || performance.now() > deadline) {
      throw new Error(`${process.name} opened no port within ${startTimeoutMs} ms:\n${process.stderr()}`);
    }
    await Bun.sleep(10);
  }
}
