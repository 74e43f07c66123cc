/**
 * The single binary as a stranger gets it: copied alone into an empty directory, without an environment, and run by a user
 * without rights where the tests themselves may choose one.
 */
import { chmodSync, chownSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildBinary } from "../../scripts/build.ts";
import { type RunningProcess, runProcess, startProcess } from "../support/process.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { requireTool } from "../support/tools.ts";

export const isRoot = process.getuid?.() === 0;
/** The user without rights on Linux. */
const nobody = 65_534;
const startTimeoutMs = 30_000;

let built: Promise<string> | undefined;
let place: TempDir | undefined;

/** Builds once for all tests of a file. */
export function binary(): Promise<string> {
  place ??= makeTempDir("binary");
  const outfile = join(place.path, "berth");
  built ??= buildBinary(outfile);
  return built;
}

export function forgetBinary(): void {
  place?.remove();
  place = undefined;
  built = undefined;
}

export interface Alone {
  /** The directory, which holds `berth` and what the test put there. */
  readonly dir: string;
  /** Writes a file for the user without rights. */
  write(name: string, text: string, mode?: number): string;
  /** Runs one command to its end. */
  run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  /** `berth serve` with these arguments; resolves when it listens. */
  serve(args: readonly string[], options?: ServeOptions): Promise<AloneServer>;
  remove(): Promise<void>;
}

export interface ServeOptions {
  readonly env?: Record<string, string>;
  /** Program and arguments in front of everything, such as `ip netns exec NAME`. */
  readonly prefix?: readonly string[];
  /** The same, run by the user without rights. */
  readonly wrapper?: readonly string[];
}

export interface AloneServer {
  readonly process: RunningProcess;
  readonly url: string;
  readonly port: number;
  /** From the start of the process to its first answer on /v2/; undefined when another namespace hides it from us. */
  readonly coldStartMs: number | undefined;
}

export async function placeAlone(): Promise<Alone> {
  const from = await binary();
  const temp = makeTempDir("alone");
  const dir = join(temp.path, "here");
  chmodSync(temp.path, 0o755);
  mkdirSync(dir, { mode: 0o755 });
  if (isRoot) chownSync(dir, nobody, nobody);
  copyFileSync(from, join(dir, "berth"));
  chmodSync(join(dir, "berth"), 0o755);
  const asNobody = isRoot
    ? [requireTool("setpriv"), "--reuid", `${nobody}`, "--regid", `${nobody}`, "--clear-groups", "--"]
    : [];
  const program = join(dir, "berth");
  const servers: RunningProcess[] = [];
  const noEnvironment = Object.fromEntries(Object.keys(process.env).map((name) => [name, undefined]));

  return {
    dir,
    write(name, text, mode = 0o600) {
      const path = join(dir, name);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, text, { mode });
      if (isRoot) for (const each of [join(path, ".."), path]) chownSync(each, nobody, nobody);
      return path;
    },
    async run(...args) {
      const child = Bun.spawn([...asNobody, program, ...args], {
        cwd: dir,
        env: {},
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
      const text = (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => new Response(stream).text();
      const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
      return { code, stdout, stderr };
    },
    async serve(args, { env = {}, prefix = [], wrapper = [] } = {}) {
      const berth = [...asNobody, ...wrapper, program, "serve", "--metrics-listen", "off"];
      const [command = "", ...rest] = [...prefix, ...berth, ...args];
      const startedMs = performance.now();
      const child = startProcess({
        command,
        args: rest,
        cwd: dir,
        env: { ...noEnvironment, ...env },
        name: "berth",
      });
      servers.push(child);
      const line = await child.waitForLine(/"msg":"listening"/, startTimeoutMs);
      const url = (JSON.parse(line) as { http: string }).http;
      let coldStartMs: number | undefined;
      if (prefix.length === 0) {
        await fetch(`${url}/v2/`, { tls: { rejectUnauthorized: false } });
        coldStartMs = Math.round(performance.now() - startedMs);
      }
      return { process: child, url, port: Number(new URL(url).port), coldStartMs };
    },
    async remove() {
      for (const server of servers) await server.stop();
      temp.remove();
    },
  };
}

export interface Podman {
  /** Builds an image of one random file, pushes it as `name`, forgets it, pulls it back and gives its file's text. */
  roundTrip(name: string, options?: PodmanOptions): Promise<{ sent: string; received: string }>;
  remove(): Promise<void>;
}

export interface PodmanOptions {
  /** `admin:password`. */
  readonly credentials: string;
  /** Arguments of push and pull; default: plain HTTP. */
  readonly tls?: readonly string[];
  readonly prefix?: readonly string[];
}

/** A name that is ::1 alone: podman reads no `[::1]` in image names. Only programs started with `hostsPrefix` know it. */
export const ipv6Name = "berth6.test";

/** podman as root or not, with images and log-ins of its own, and no container runtime. */
export function placePodman(): Podman & { hostsPrefix(): string[] } {
  const temp = makeTempDir("podman");
  const podman = requireTool("podman");
  writeFileSync(join(temp.path, "auth.json"), "{}");
  const own = ["--root", join(temp.path, "images"), "--runroot", join(temp.path, "run"), "--storage-driver=vfs"];
  const run = (prefix: readonly string[], ...args: string[]) => {
    const [program = "", ...rest] = [...prefix, podman, ...own, "--tmpdir", join(temp.path, "tmp"), ...args];
    const env = { REGISTRY_AUTH_FILE: join(temp.path, "auth.json"), no_proxy: "*" };
    return runProcess({ command: program, args: rest, cwd: temp.path, env, timeoutMs: 60_000 });
  };
  return {
    async roundTrip(name, options) {
      const { credentials = "", tls = ["--tls-verify=false"], prefix = [] } = options ?? {};
      const sent = crypto.randomUUID();
      writeFileSync(join(temp.path, "content.txt"), sent);
      writeFileSync(join(temp.path, "Containerfile"), "FROM scratch\nCOPY content.txt /content.txt\n");
      await run([], "build", "--isolation=chroot", "-t", name, ".");
      await run(prefix, "push", ...tls, "--creds", credentials, name);
      await run([], "rmi", "--all", "--force");
      await run(prefix, "pull", ...tls, "--creds", credentials, name);
      const { stdout: mounted } = await run([], "image", "mount", name);
      const received = await Bun.file(join(mounted.trim(), "content.txt")).text();
      await run([], "image", "umount", name);
      await run([], "rmi", "--all", "--force");
      return { sent, received };
    },
    hostsPrefix() {
      const hosts = join(temp.path, "hosts");
      writeFileSync(hosts, `127.0.0.1 localhost\n::1 ${ipv6Name}\n`);
      const script = `mount --bind "$1" /etc/hosts && shift && exec "$@"`;
      return [requireTool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", hosts];
    },
    async remove() {
      temp.remove();
    },
  };
}
