/** podman against the real server: log-in, build, push, pull, robots, public repositories, indexes, IPv4 and IPv6. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, mediaTypes, toBytes } from "../support/registry-client.ts";
import { type Client, ipv6Name, isolation, noTls, podmanIn } from "./containers.ts";
import { adminPassword, type ClientLab, startLab, testTimeoutMs } from "./lab.ts";

let lab: ClientLab;
let podman: Client;

beforeAll(async () => {
  lab = await startLab({ listen: "[::]:0" });
  podman = podmanIn(lab);
  await podman.run("login", noTls, "-u", "admin", "-p", adminPassword, lab.host);
}, testTimeoutMs);

afterAll(() => lab?.stop(), testTimeoutMs);

/** Builds an image of one random file under a full name. */
async function build(name: string, ...args: string[]): Promise<string> {
  const { dir, content } = lab.buildContext(name.replaceAll(/[^a-z0-9]/g, "-"));
  await podman.run("build", isolation, ...args, "-t", name, dir);
  return content;
}

/** What a pulled image has in its file. */
async function contentOf(name: string): Promise<string> {
  const { stdout } = await podman.run("image", "mount", name);
  try {
    return readFileSync(join(stdout.trim(), "content.txt"), "utf8");
  } finally {
    await podman.run("image", "unmount", name);
  }
}

test(
  "login says whether the password is right, and logout forgets it",
  async () => {
    // An account of its own: after a wrong password an account is locked for a moment.
    await lab.berthUser("create", "carla");
    const refused = await podman.fail("login", noTls, "-u", "carla", "-p", "not-her-password", lab.host);
    expect(refused).toContain("invalid username/password");
    const unknown = await podman.fail("login", noTls, "-u", "nobody", "-p", "not-a-password", lab.host);
    expect(unknown).toContain("invalid username/password");

    const authFile = ["--authfile", lab.path("login.json")];
    const accepted = await podman.run("login", noTls, ...authFile, "-u", "admin", "-p", adminPassword, lab.host);
    expect(accepted.text).toContain("Login Succeeded!");
    await podman.run("logout", ...authFile, lab.host);
    expect(JSON.parse(readFileSync(lab.path("login.json"), "utf8"))).toEqual({ auths: {} });
  },
  testTimeoutMs,
);

test(
  "an image that was built and pushed comes back the same",
  async () => {
    const name = `${lab.host}/admin/built:v1`;
    const content = await build(name);
    const digestFile = lab.path("built.digest");
    await podman.run("push", noTls, "--digestfile", digestFile, name);
    const stored = await lab.manifest("admin/built", "v1");
    expect(stored.digest).toBe(readFileSync(digestFile, "utf8"));
    expect(digestOf(toBytes(stored.text))).toBe(stored.digest ?? "");
    expect(stored.mediaType).toBe(mediaTypes.manifest);

    await podman.run("rmi", name);
    await podman.run("pull", noTls, name);
    expect(await contentOf(name)).toBe(content);
    const byDigest = `${lab.host}/admin/built@${stored.digest}`;
    await podman.run("pull", noTls, byDigest);
    expect(await podman.fail("pull", noTls, `${lab.host}/admin/built:v2`)).toContain("manifest unknown");
  },
  testTimeoutMs,
);

test(
  "docker schema 2 is stored as it was pushed",
  async () => {
    const name = `${lab.host}/admin/docker-format:v1`;
    const content = await build(name, "--format", "docker");
    await podman.run("push", noTls, "--format", "v2s2", name);
    const stored = await lab.manifest("admin/docker-format", "v1");
    expect(stored.mediaType).toBe("application/vnd.docker.distribution.manifest.v2+json");
    expect(stored.json.config?.mediaType).toBe("application/vnd.docker.container.image.v1+json");
    expect(digestOf(toBytes(stored.text))).toBe(stored.digest ?? "");
    await podman.run("rmi", name);
    await podman.run("pull", noTls, name);
    expect(await contentOf(name)).toBe(content);
  },
  testTimeoutMs,
);

test(
  "a robot pushes where it may write and nowhere else",
  async () => {
    await lab.admin.pushImage("admin/for-robots", "v0");
    await lab.admin.pushImage("admin/not-for-robots", "v0");
    const token = await lab.berthUser("robot", "admin+builder");
    await lab.berthUser("grant", "admin+builder", "admin/for-robots", "--role", "write");
    const asRobot = ["--creds", `admin+builder:${token}`];
    const image = "localhost/robot-image";
    await build(image);
    await podman.run("push", noTls, ...asRobot, image, `${lab.host}/admin/for-robots:v1`);
    expect((await lab.manifest("admin/for-robots", "v1")).mediaType).toBe(mediaTypes.manifest);
    const refused = await podman.fail("push", noTls, ...asRobot, image, `${lab.host}/admin/not-for-robots:v1`);
    expect(refused).toContain("unauthorized");
    expect((await lab.admin.pullManifest("admin/not-for-robots", "v1")).status).toBe(404);
  },
  testTimeoutMs,
);

test(
  "a public repository is pulled without login, a private one is not",
  async () => {
    const anonymous = podman.anonymous();
    const name = `${lab.host}/admin/open:v1`;
    await build(name);
    await podman.run("push", noTls, name);
    await podman.run("rmi", name);
    expect(await anonymous.fail("pull", noTls, name)).toContain("unauthorized");
    await lab.berthUser("publish", "admin/open");
    await anonymous.run("pull", noTls, name);
    expect(await anonymous.fail("push", noTls, name)).toContain("unauthorized");
  },
  testTimeoutMs,
);

test(
  "an index of two architectures is pushed whole and pulled by architecture",
  async () => {
    const index = "localhost/two-architectures";
    for (const architecture of ["amd64", "arm64"]) {
      const { dir } = lab.buildContext(`index-${architecture}`);
      await podman.run("build", isolation, "--platform", `linux/${architecture}`, "--manifest", index, dir);
    }
    const name = `${lab.host}/admin/index:v1`;
    await podman.run("manifest", "push", "--all", noTls, index, `docker://${name}`);
    const stored = await lab.manifest("admin/index", "v1");
    expect(stored.mediaType).toBe(mediaTypes.index);
    const architectures = stored.json.manifests?.map((each) => each.platform?.architecture);
    expect(architectures?.sort()).toEqual(["amd64", "arm64"]);
    await podman.run("pull", noTls, "--arch", "arm64", name);
    const { stdout } = await podman.run("image", "inspect", "--format", "{{.Architecture}}", name);
    expect(stdout.trim()).toBe("arm64");
  },
  testTimeoutMs,
);

test(
  "one dual-stack server takes login, push and pull over IPv4 and IPv6",
  async () => {
    const login = await podman.run("login", noTls, "-u", "admin", "-p", adminPassword, `[::1]:${lab.port}`);
    expect(login.text).toContain("Login Succeeded!");
    await throughIpv6(lab, podman, "dual");
    await podman.run("pull", noTls, `${lab.host}/admin/dual:v1`);
  },
  testTimeoutMs,
);

describe("a server on IPv6 alone", () => {
  let ipv6: ClientLab;
  beforeAll(async () => {
    ipv6 = await startLab({
      listen: "[::]:0",
      config: { FEATURE_LISTEN_IP_VERSION: "IPv6" },
      alone: "behind a balancer it is the balancer's address that clients meet",
    });
  }, testTimeoutMs);
  afterAll(() => ipv6?.stop(), testTimeoutMs);

  test(
    "takes login, push and pull over IPv6 and refuses IPv4",
    async () => {
      const client = podmanIn(ipv6);
      await throughIpv6(ipv6, client, "alone");
      const refused = await client.fail("login", noTls, "-u", "admin", "-p", adminPassword, ipv6.host);
      expect(refused).toContain("connection refused");
    },
    testTimeoutMs,
  );
});

/** Login, push and pull at a name that stands for ::1 alone. */
async function throughIpv6(at: ClientLab, client: Client, repository: string): Promise<void> {
  const client6 = client.overIpv6();
  const host = `${ipv6Name}:${at.port}`;
  const name = `${host}/admin/${repository}:v1`;
  await client6.run("login", noTls, "-u", "admin", "-p", adminPassword, host);
  const { dir } = at.buildContext(repository);
  await client.run("build", isolation, "-t", name, dir);
  await client6.run("push", noTls, name);
  await client.run("rmi", name);
  await client6.run("pull", noTls, name);
  expect((await at.manifest(`admin/${repository}`, "v1")).mediaType).toBe(mediaTypes.manifest);
}
