/**
 * The Containerfile, built without any network: its base is made here from the C library and the few programs that its RUN
 * line needs. What it makes is run as its own user on a root file system that it cannot write.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { rootDir } from "../../scripts/parts.ts";
import { freePort, type RunningProcess, runProcess, startProcess } from "../support/process.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { requireTool } from "../support/tools.ts";
import { binary, forgetBinary, isRoot } from "./alone.ts";

setDefaultTimeout(180_000);
const temp = makeTempDir("container");
const base = "localhost/berth-test-base";
const image = "localhost/berth-test";
const volume = join(temp.path, "volume");
let server: RunningProcess | undefined;

const own = ["--root", join(temp.path, "images"), "--runroot", join(temp.path, "run"), "--storage-driver=vfs"];
const buildah = (...args: string[]) =>
  runProcess({ command: requireTool("buildah"), args: [...own, ...args], cwd: temp.path, timeoutMs: 120_000 });

beforeAll(async () => {
  // The context as .containerignore leaves it.
  mkdirSync(join(temp.path, "context", "dist"), { recursive: true });
  copyFileSync(await binary(), join(temp.path, "context", "dist", "berth"));
  for (const file of ["Containerfile", ".containerignore"]) {
    copyFileSync(join(rootDir, file), join(temp.path, "context", file));
  }
  await makeBase();
});
afterAll(async () => {
  await server?.stop();
  if (existsSync(join(temp.path, "images"))) await buildah("rm", "--all").catch(() => undefined);
  temp.remove();
  forgetBinary();
});

/** A file system of `sh` and `install` with the libraries they and Berth load. */
async function makeBase(): Promise<void> {
  const rootfs = join(temp.path, "rootfs");
  const files = new Set<string>();
  for (const program of ["/bin/sh", "/usr/bin/install", await binary()]) {
    const { stdout } = await runProcess({ command: requireTool("ldd"), args: [program] });
    for (const [, path] of stdout.matchAll(/(\/[^\s)]+)/g)) if (path && existsSync(path)) files.add(path);
  }
  for (const path of ["/bin/sh", "/usr/bin/install", ...files]) {
    if (path === (await binary())) continue;
    mkdirSync(join(rootfs, dirname(path)), { recursive: true });
    copyFileSync(realpathSync(path), join(rootfs, path));
  }
  for (const dir of ["tmp", "etc", "var", "proc", "dev", "usr/local/bin"])
    mkdirSync(join(rootfs, dir), { recursive: true });
  writeFileSync(join(rootfs, "etc", "passwd"), "root:x:0:0:root:/:/bin/sh\n");
  writeFileSync(join(rootfs, "etc", "group"), "root:x:0:\n");
  writeFileSync(join(temp.path, "Containerfile.base"), "FROM scratch\nCOPY rootfs/ /\nENV PATH=/usr/bin:/bin\n");
  await buildah("build", "--isolation=chroot", "-f", "Containerfile.base", "-t", base, temp.path);
}

interface ImageConfig {
  readonly User: string;
  readonly WorkingDir: string;
  readonly Entrypoint: string[];
  readonly Cmd: string[];
  readonly ExposedPorts: Record<string, unknown>;
  readonly Volumes: Record<string, unknown>;
  readonly Healthcheck: { Test: string[] };
  readonly Labels: Record<string, string>;
}

test.skipIf(!isRoot)("the image is built, says what it is, and runs as its own user on a read-only root", async () => {
  const context = join(temp.path, "context");
  const format = ["--format", "docker", "--isolation=chroot", "--build-arg", `BASE=${base}`];
  await buildah("build", ...format, "--pull=never", "-t", image, context);
  const { stdout } = await buildah("inspect", "--type", "image", image);
  const { config } = (JSON.parse(stdout) as { Docker: { config: ImageConfig } }).Docker;
  expect(config).toMatchObject({
    User: "1001:0",
    Entrypoint: ["/usr/local/bin/berth"],
    Cmd: ["serve", "--data", "/var/lib/berth"],
    Volumes: { "/var/lib/berth": {} },
    ExposedPorts: { "8080/tcp": {}, "8443/tcp": {}, "9091/tcp": {} },
  });
  expect(config.Labels["org.opencontainers.image.licenses"]).toBe("Apache-2.0");
  expect(config.Healthcheck.Test.slice(0, 4)).toEqual(["CMD", "/usr/local/bin/berth", "check", "--running"]);

  const container = (await buildah("from", "--pull=never", image)).stdout.trim();
  const root = (await buildah("mount", container)).stdout.trim();
  const data = statSync(join(root, "var", "lib", "berth"));
  expect({ uid: data.uid, gid: data.gid, mode: data.mode & 0o777 }).toEqual({ uid: 1001, gid: 0, mode: 0o770 });

  makeVolume(data);
  const port = await freePort();
  const listen = ["--listen", `127.0.0.1:${port}`];
  server = inContainer(root, [...config.Entrypoint, ...config.Cmd, ...listen, "--metrics-listen", "off"]);
  await server.waitForLine(/"msg":"listening"/, 30_000);
  expect((await fetch(`http://127.0.0.1:${port}/health/instance`)).status).toBe(200);
  expect(statSync(join(volume, "berth.db")).uid).toBe(1001);

  const check = inContainer(root, [...config.Healthcheck.Test.slice(1), ...listen]);
  expect(await check.exited).toBe(0);
  const wrongPort = inContainer(root, [...config.Healthcheck.Test.slice(1), "--listen", "127.0.0.1:1"]);
  expect(await wrongPort.exited).toBe(69);
  expect(await server.stop()).toBe(0);
});

/** As a container runtime would: the root read-only, the volume writable, the image's user, no environment. */
function inContainer(root: string, command: readonly string[]): RunningProcess {
  const script = `root=$1; shift
    mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" && mount -t proc proc "$root/proc" &&
    mount --bind /dev "$root/dev" && mount --bind "$VOLUME" "$root/var/lib/berth" && exec "$CHROOT" --userspec=1001:0 "$root" "$@"`;
  return startProcess({
    command: requireTool("unshare"),
    args: ["--mount", "--propagation", "private", "sh", "-c", script, "sh", root, ...command],
    cwd: "/",
    env: {
      VOLUME: volume,
      CHROOT: requireTool("chroot"),
      BERTH_ADMIN_PASSWORD: "container-test-password",
      HOME: undefined,
    },
    name: "berth in a container",
  });
}

/** A fresh volume takes owner and mode of the image's directory. */
function makeVolume(like: { uid: number; gid: number; mode: number }): void {
  mkdirSync(volume);
  chownSync(volume, like.uid, like.gid);
  chmodSync(volume, like.mode & 0o777);
}
