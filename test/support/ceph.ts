/**
 * Starts Ceph's radosgw over one monitor and one OSD that keeps everything in memory: the S3 server that Quay's
 * RadosGWStorage talks to. Debian's packages, loopback only, without Ceph's own authentication.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, type RunningProcess, runProcess, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";
import { requireTool } from "./tools.ts";

export interface Ceph {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
  /** Process id of the gateway. */
  readonly pid: number;
  stop(): Promise<void>;
}

const keys = { accessKey: "AKTEST", secretKey: "SKTEST" };
/** The slowest step, on a machine that does other things as well. */
const stepMs = 120_000;
/** ceph-osd 16 can lose a race with its monitor at its start and ends: it is started again. */
const osdStartsMax = 8;

/** Starts it on free ports. Throws when a program is missing, with the package to install. */
export async function startCeph(): Promise<Ceph> {
  const tools = Object.fromEntries(
    ["ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"].map((name) => [name, requireTool(name)]),
  );
  const dir = makeTempDir("ceph");
  const config = join(dir.path, "ceph.conf");
  const env = { CEPH_CONF: config };
  const running: RunningProcess[] = [];
  const stop = async () => {
    for (const child of running.reverse()) await child.kill();
    dir.remove();
  };
  const run = (name: string, ...args: string[]) =>
    runProcess({ command: tools[name] ?? name, args, cwd: dir.path, env, timeoutMs: stepMs, name });
  const start = (name: string, ...args: string[]) => {
    const child = startProcess({ command: tools[name] ?? name, args, cwd: dir.path, env, name });
    running.push(child);
    return child;
  };
  try {
    const [monitorPort, gatewayPort] = [await freePort(), await freePort()];
    const [cluster, osd] = [crypto.randomUUID(), crypto.randomUUID()];
    for (const name of ["mon", "osd", "run", "rgw"]) mkdirSync(join(dir.path, name));
    writeFileSync(config, configText(dir.path, cluster, monitorPort, gatewayPort));
    await run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", `[v1:127.0.0.1:${monitorPort}]`, "monmap");
    await run("ceph-mon", "-c", config, "--mkfs", "-i", "a", "--monmap", "monmap", "--mon-data", join(dir.path, "mon"));
    start("ceph-mon", "-c", config, "-i", "a", "-f");
    const ceph = (...args: string[]) => run("ceph", "-c", config, "--connect-timeout", "4", ...args);
    await untilDone(() => ceph("-s"));
    await untilDone(() => ceph("osd", "new", osd));
    const osdDir = join(dir.path, "osd");
    await run("ceph-osd", "-c", config, "-i", "0", "--mkfs", "--osd-uuid", osd, "--osd-data", osdDir);
    await startOsd(() => start("ceph-osd", "-c", config, "-i", "0", "-f"), ceph);
    const client = ["-c", config, "-n", "client.rgw"];
    const user = ["--uid=t", "--display-name=t", `--access-key=${keys.accessKey}`, `--secret-key=${keys.secretKey}`];
    await untilDone(() => run("radosgw-admin", ...client, "user", "create", ...user));
    const gateway = start("radosgw", ...client, "-f");
    const endpoint = `http://127.0.0.1:${gatewayPort}`;
    await gateway.waitForUrl(endpoint, { timeoutMs: stepMs });
    return { endpoint, ...keys, pid: gateway.pid, stop };
  } catch (error) {
    const log = join(dir.path, "client.rgw.log");
    const tail = (await Bun.file(log).exists()) ? readFileSync(log, "utf8").slice(-2000) : "";
    await stop();
    throw new Error(`Ceph does not start${tail === "" ? "" : `: ${tail}`}`, { cause: error });
  }
}

async function startOsd(start: () => RunningProcess, ceph: (...args: string[]) => Promise<{ stdout: string }>) {
  for (let starts = 1; ; starts++) {
    const osd = start();
    const deadline = performance.now() + stepMs;
    while (!osd.hasExited() && performance.now() < deadline) {
      const status = await ceph("osd", "stat").catch(() => undefined);
      if (status?.stdout.includes("1 up")) return;
      await Bun.sleep(200);
    }
    if (starts === osdStartsMax) throw new Error(`the OSD does not come up: ${osd.stderr().slice(-2000)}`);
    await osd.kill();
  }
}

/** A monitor that has only just started refuses, or does not answer. */
async function untilDone(work: () => Promise<unknown>): Promise<void> {
  const deadline = performance.now() + stepMs;
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await Bun.sleep(200);
    }
  }
}

function configText(dir: string, cluster: string, monitorPort: number, gatewayPort: number): string {
  return `[global]
fsid = ${cluster}
mon host = v1:127.0.0.1:${monitorPort}/0
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 4000
mon data avail crit = 0
mon data avail warn = 1
run dir = ${dir}/run
admin socket = ${dir}/run/$name.asok
log file = ${dir}/$name.log
pid file = ${dir}/run/$name.pid
mon data = ${dir}/mon
osd data = ${dir}/osd
rgw data = ${dir}/rgw
keyring = /dev/null
heartbeat inject failure = 0
[osd]
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
debug osd = 0
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort}
rgw region =
rgw crypt require ssl = false
rgw dns name =
rgw thread pool size = 32
rgw enable usage log = false
rgw enable ops log = false
`;
}
