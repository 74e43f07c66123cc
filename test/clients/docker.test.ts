/**
 * The Docker engine against the real server: log-in, push, pull, robots and public repositories. Optional: it runs as root
 * where Debian's docker.io is installed, with a daemon of its own that touches neither network nor other images.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { type RunningProcess, startProcess } from "../support/process.ts";
import { findTool } from "../support/tools.ts";
import { adminPassword, type ClientLab, startLab, testTimeoutMs } from "./lab.ts";

const dockerd = findTool("dockerd");
const docker = findTool("docker");
const reason =
  dockerd === undefined || docker === undefined
    ? "not run: needs the Docker engine (apt-get install docker.io)"
    : process.getuid?.() === 0
      ? undefined
      : "not run: the Docker engine needs root";

if (reason !== undefined) {
  console.log(`docker: ${reason}`);
  test.skip(`docker: ${reason}`, () => undefined);
} else {
  describe("docker", () => dockerTests(dockerd ?? "", docker ?? ""));
}

function dockerTests(daemonProgram: string, program: string): void {
  let lab: ClientLab;
  let daemon: RunningProcess;
  const at = () => ["--host", `unix://${lab.path("docker.sock")}`];
  const run = (...args: string[]) => lab.run(program, [...at(), ...args]);
  const fail = (...args: string[]) => lab.fail(program, [...at(), ...args]);
  const idOf = async (name: string) => (await run("image", "inspect", "--format", "{{.Id}}", name)).stdout.trim();

  beforeAll(async () => {
    lab = await startLab();
    writeFileSync(lab.path("daemon.json"), JSON.stringify({ "insecure-registries": ["127.0.0.0/8"] }));
    const folders = { "--data-root": "engine", "--exec-root": "exec", "--pidfile": "docker.pid" };
    const own = Object.entries(folders).flatMap(([flag, name]) => [flag, lab.path(name)]);
    const noNetwork = [
      "--bridge=none",
      "--iptables=false",
      "--ip6tables=false",
      "--ip-forward=false",
      "--ip-masq=false",
    ];
    const args = [...at(), "--config-file", lab.path("daemon.json"), ...own, ...noNetwork, "--storage-driver=vfs"];
    daemon = startProcess({ command: daemonProgram, args, name: "dockerd" });
    await daemon.waitForLine(/API listen on/, 45_000);
    await run("login", "-u", "admin", "-p", adminPassword, lab.host);
  }, testTimeoutMs);

  afterAll(async () => {
    await daemon?.stop();
    await lab?.stop();
  }, testTimeoutMs);

  /** Makes an image of one random file under a name. */
  const makeImage = async (name: string) => {
    const { dir } = lab.buildContext(name.replaceAll(/[^a-z0-9]/g, "-"));
    const tar = `${dir}.tar`;
    await lab.run("tar", ["-cf", tar, "-C", dir, "."]);
    await run("import", tar, name);
  };

  test(
    "login says whether the password is right",
    async () => {
      await lab.berthUser("create", "dora");
      const elsewhere = ["--config", lab.path("docker-other")];
      const refused = await lab.fail(program, [...elsewhere, ...at(), "login", "-u", "dora", "-p", "wrong", lab.host]);
      expect(refused).toContain("unauthorized: Invalid Username or Password");
      const accepted = ["login", "-u", "admin", "-p", adminPassword, lab.host];
      expect((await lab.run(program, [...elsewhere, ...at(), ...accepted])).text).toContain("Login Succeeded");
    },
    testTimeoutMs,
  );

  test(
    "an image is pushed as docker schema 2, pulled again by tag and digest, and pushed under a second name by mount",
    async () => {
      const name = `${lab.host}/admin/engine:v1`;
      await makeImage(name);
      const id = await idOf(name);
      const pushed = await run("push", name);
      const stored = await lab.manifest("admin/engine", "v1");
      expect(stored.mediaType).toBe("application/vnd.docker.distribution.manifest.v2+json");
      expect(pushed.stdout).toContain(`v1: digest: ${stored.digest}`);

      await run("tag", name, `${lab.host}/admin/engine-second:v1`);
      const second = await run("push", `${lab.host}/admin/engine-second:v1`);
      expect(second.stdout).toContain("Mounted from admin/engine");
      await run("rmi", name, `${lab.host}/admin/engine-second:v1`);
      await run("pull", name);
      expect(await idOf(name)).toBe(id);
      await run("pull", `${lab.host}/admin/engine-second@${stored.digest}`);
      expect(await fail("pull", `${lab.host}/admin/engine:v2`)).toContain("manifest unknown");
    },
    testTimeoutMs,
  );

  test(
    "without login a public repository is pulled and a private one is not",
    async () => {
      const name = `${lab.host}/admin/engine-open:v1`;
      await makeImage(name);
      await run("push", name);
      await run("rmi", name);
      const nobody = ["--config", lab.path("docker-nobody"), ...at()];
      expect(await lab.fail(program, [...nobody, "pull", name])).toMatch(/unauthorized|denied/);
      await lab.berthUser("publish", "admin/engine-open");
      await lab.run(program, [...nobody, "pull", name]);
      expect(await lab.fail(program, [...nobody, "push", name])).toMatch(/unauthorized|denied/);
    },
    testTimeoutMs,
  );
}
