/**
 * Debian's docker-registry (CNCF distribution 2.8) on a local directory: the peer of the benchmarks and the upstream of
 * mirror tests. No redirects unless asked for, deletion on, no authentication unless a user is given.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listeningPorts, type RunningProcess, startProcess } from "./process.ts";
import type { S3Server } from "./s3.ts";
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
  /** Stores blobs there instead of in a directory of its own. */
  s3?: { server: S3Server; bucket: string };
  /** Sends clients to the store for blobs, where it can. */
  redirects?: boolean;
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
    storage: {
      ...(options.s3 ? s3Storage(options.s3) : { filesystem: { rootdirectory: dataDir } }),
      delete: { enabled: true },
      redirect: { disable: !options.redirects },
    },
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
    // Its AWS library refuses to start where the environment names authorities: the transport is not one it can give them to.
    env: { OTEL_TRACES_EXPORTER: "none", AWS_CA_BUNDLE: undefined },
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

/** Version 2.8 takes the path style by itself for every endpoint that is not AWS's. */
function s3Storage({ server, bucket }: { server: S3Server; bucket: string }): Record<string, unknown> {
  return {
    s3: {
      accesskey: server.accessKey,
      secretkey: server.secretKey,
      region: server.region,
      regionendpoint: server.endpoint,
      bucket,
      secure: server.endpoint.startsWith("https:"),
      v4auth: true,
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
