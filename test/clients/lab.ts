/**
 * What every client test starts from: a real Berth, accounts made by `berth user`, and a folder in which the client keeps
 * its log-ins, images and caches, so that neither a developer's own setup nor another test is touched.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BerthServer, defaultAdminPassword, startBerth } from "../support/berth.ts";
import { runProcess } from "../support/process.ts";
import { RegistryClient } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";

/** Time for one test: clients start slowly on a busy machine. */
export const testTimeoutMs = 60_000;
export const adminPassword = defaultAdminPassword;
const commandTimeoutMs = 45_000;
const mainFile = join(import.meta.dir, "..", "..", "src", "main.ts");

export interface ClientLab {
  readonly berth: BerthServer;
  readonly port: number;
  /** `127.0.0.1:PORT`, as image names have it. */
  readonly host: string;
  /** Speaks to the same server as admin, to see what a client stored. */
  readonly admin: RegistryClient;
  /** A path in the client's folder, which is also its working directory. */
  path(...parts: string[]): string;
  /** Runs a client to its end and gives both of its streams. Throws, with them, when it fails. */
  run(command: string, args: readonly string[], env?: Record<string, string>): Promise<Output>;
  /** Runs a client that must fail, and gives what it said. */
  fail(command: string, args: readonly string[], env?: Record<string, string>): Promise<string>;
  /** `berth user …` on the same database, and until the server has heard of it; gives what it printed. */
  berthUser(...args: string[]): Promise<string>;
  /** A folder with a Containerfile and a file of random text, so that no layer is known from before. */
  buildContext(name: string): BuildContext;
  /** Media type, bytes and digest of a manifest as Berth gives them. */
  manifest(repository: string, reference: string): Promise<StoredManifest>;
  stop(): Promise<void>;
}

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
  /** Both, for messages that a client may print on either. */
  readonly text: string;
}

export interface BuildContext {
  readonly dir: string;
  /** What the image has in `/content.txt`. */
  readonly content: string;
}

export interface StoredManifest {
  readonly mediaType: string | null;
  readonly digest: string | null;
  readonly text: string;
  readonly json: ManifestJson;
}

/** What the tests look at of manifests and indexes. */
export interface ManifestJson {
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config?: { readonly digest: string; readonly mediaType: string };
  readonly layers?: readonly {
    readonly digest: string;
    readonly mediaType: string;
    readonly annotations?: Readonly<Record<string, string>>;
  }[];
  readonly manifests?: readonly {
    readonly digest: string;
    readonly mediaType: string;
    readonly artifactType?: string;
    readonly platform?: { readonly architecture: string };
  }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Starts Berth on `listen` (default `127.0.0.1:0`) with these config keys over its embedded default; `alone` as BerthOptions has it. */
export async function startLab(
  options: { listen?: string; config?: Record<string, unknown>; alone?: string } = {},
): Promise<ClientLab> {
  const dir = makeTempDir("client");
  const { config = {}, ...where } = options;
  const berth = await startBerth({ ...where, overrides: config });
  const port = Number(new URL(berth.url).port);
  const loopback = new URL(berth.url).hostname === "127.0.0.1" ? "127.0.0.1" : "[::1]";
  const admin = new RegistryClient({
    url: `http://${loopback}:${port}`,
    username: "admin",
    password: berth.adminPassword,
  });
  const path = (...parts: string[]) => join(dir.path, ...parts);
  const home = clientHome(dir.path);

  const run: ClientLab["run"] = async (command, args, env = {}) => {
    const options = { command, args, cwd: dir.path, env: { ...home, ...env }, timeoutMs: commandTimeoutMs };
    const { stdout, stderr } = await runProcess(options);
    return { stdout, stderr, text: stdout + stderr };
  };
  return {
    berth,
    port,
    host: `127.0.0.1:${port}`,
    admin,
    path,
    run,
    fail: async (command, args, env) => {
      const message = await run(command, args, env).then(
        () => undefined,
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      );
      if (message === undefined) throw new Error(`"${command} ${args.join(" ")}" should have failed`);
      return message;
    },
    berthUser: async (...args) => {
      const command = [mainFile, "user", ...args, "--data", berth.dataDir];
      const { stdout } = await runProcess({ command: process.execPath, args: command, env: berth.environment });
      return stdout.trim();
    },
    buildContext: (name) => makeBuildContext(path(`context-${name}`)),
    manifest: async (repository, reference) => {
      const response = await admin.pullManifest(repository, reference);
      const text = await response.text();
      if (response.status !== 200) throw new Error(`manifest "${reference}" of "${repository}": ${text}`);
      const { headers } = response;
      const json = JSON.parse(text) as ManifestJson;
      return { mediaType: headers.get("content-type"), digest: headers.get("docker-content-digest"), text, json };
    },
    stop: async () => {
      await berth.stop();
      dir.remove();
    },
  };
}

/** Where the clients keep log-ins and caches: everything in one folder of the test. */
function clientHome(dir: string): Record<string, string> {
  const docker = join(dir, "docker");
  for (const folder of ["tmp", "run", "docker"]) mkdirSync(join(dir, folder), { mode: 0o700 });
  writeFileSync(join(dir, "no-log-ins.json"), "{}");
  return {
    HOME: dir,
    TMPDIR: join(dir, "tmp"),
    XDG_RUNTIME_DIR: join(dir, "run"),
    XDG_CONFIG_HOME: join(dir, "config"),
    XDG_CACHE_HOME: join(dir, "cache"),
    XDG_DATA_HOME: join(dir, "share"),
    REGISTRY_AUTH_FILE: join(dir, "auth.json"),
    DOCKER_CONFIG: docker,
    REGCTL_CONFIG: join(dir, "regctl.json"),
    HELM_CONFIG_HOME: join(dir, "helm"),
  };
}

function makeBuildContext(dir: string): BuildContext {
  mkdirSync(dir);
  // Text that compresses: gzip and zstd must not give the same bytes.
  const random = Buffer.from(crypto.getRandomValues(new Uint8Array(32 * 1024)));
  const content = random.toString("base64");
  writeFileSync(join(dir, "content.txt"), content);
  writeFileSync(join(dir, "Containerfile"), "FROM scratch\nCOPY content.txt /content.txt\nLABEL purpose=berth-test\n");
  return { dir, content };
}
