/** The single binary alone: it starts in an empty folder, keeps to it, and serves podman over every kind of address. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { freePort, runProcess } from "../support/process.ts";
import { requireTool } from "../support/tools.ts";
import { type Alone, forgetBinary, ipv6Name, isRoot, placeAlone, placePodman } from "./alone.ts";

setDefaultTimeout(120_000);
const adminPassword = "binary-test-password";
const env = { BERTH_ADMIN_PASSWORD: adminPassword };
const credentials = `admin:${adminPassword}`;
/** DESIGN wants 300 ms on a quiet machine; this one runs other tests beside it. */
const coldStartMaxMs = 5_000;

const podman = placePodman();
let alone: Alone;
beforeAll(async () => {
  alone = await placeAlone();
});
afterEach(async () => {
  await alone.remove();
  alone = await placeAlone();
});
afterAll(async () => {
  await alone.remove();
  await podman.remove();
  forgetBinary();
});

const refused = (url: string) =>
  fetch(url, { signal: AbortSignal.timeout(5000) }).then(
    () => false,
    () => true,
  );

describe("alone in an empty directory, with no environment", () => {
  test("it starts, makes an admin, and writes nothing but its data", async () => {
    alone.write(".env", "BERTH_ADMIN_PASSWORD=from-a-file-nobody-named\nBERTH_CONFIG=/nowhere\n");
    alone.write("bunfig.toml", 'preload = ["./missing.ts"]\n');
    const first = await alone.serve(["--listen", "127.0.0.1:0"]);
    console.log(`cold start to the first answer on /v2/: ${first.coldStartMs} ms on an empty directory`);
    expect(first.coldStartMs).toBeLessThan(coldStartMaxMs);
    expect(first.process.stderr()).toContain('first start: user "admin"');
    expect(first.process.stderr()).not.toContain("from-a-file-nobody-named");
    expect(readdirSync(alone.dir).sort()).toEqual([".env", "berth", "berth-data", "bunfig.toml"]);
    expect(await first.process.stop()).toBe(0);

    const second = await alone.serve(["--listen", "127.0.0.1:0"]);
    console.log(`cold start to the first answer on /v2/: ${second.coldStartMs} ms on existing data`);
    expect(second.coldStartMs).toBeLessThan(coldStartMaxMs);
    expect(await second.process.stop()).toBe(0);
  });

  test("its commands answer as they do from the sources", async () => {
    expect((await alone.run("version")).stdout).toStartWith(`berth ${packageJson.version} (bun `);
    expect(await alone.run("migrate")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("applied migrations 1"),
    });
    expect(await alone.run("check")).toMatchObject({ code: 0, stdout: expect.stringContaining("sqlite answers") });
    expect(await alone.run("user", "create", "alice")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\S+\n$/),
    });
    expect(await alone.run("nonsense")).toMatchObject({ code: 64, stderr: expect.stringContaining('"nonsense"') });
    expect(await alone.run("gc")).toMatchObject({ code: 0, stdout: "nothing was due\n" });
    expect(await alone.run("backup")).toMatchObject({ code: 64, stderr: "berth backup: not in this build yet\n" });
    alone.write("config.yaml", "DB_URI: 5\nV2_PAGINATION_SIZE: lots\n");
    const wrong = await alone.run("serve", "--config", ".");
    expect(wrong.code).toBe(78);
    expect(wrong.stderr).toMatch(/DB_URI must be .*\n.*V2_PAGINATION_SIZE must be /);
  });

  test("a config directory that it may only read is enough", async () => {
    alone.write("conf/config.yaml", "SERVER_HOSTNAME: registry.example.com\nFEATURE_USER_INITIALIZE: true\n", 0o444);
    chmodSync(join(alone.dir, "conf"), 0o555);
    const { url } = await alone.serve(["--config", "conf", "--data", "data", "--listen", "127.0.0.1:0"]);
    expect((await fetch(`${url}/health/instance`)).status).toBe(200);
    expect(readdirSync(join(alone.dir, "conf"))).toEqual(["config.yaml"]);
    chmodSync(join(alone.dir, "conf"), 0o755);
  });

  test.skipIf(!isRoot)("a data directory that it may not write is named, with 69", async () => {
    mkdirSync(join(alone.dir, "closed"), { mode: 0o755 });
    const { code, stderr } = await alone.run("serve", "--data", "closed/data", "--listen", "127.0.0.1:0");
    expect(stderr).toContain(join(alone.dir, "closed", "data"));
    expect(stderr).toContain("must be writable for this user");
    expect(code).toBe(69);
  });
});

describe("podman pushes and pulls", () => {
  test("over IPv4", async () => {
    const { port, url } = await alone.serve(["--listen", "127.0.0.1:0"], { env });
    const { sent, received } = await podman.roundTrip(`127.0.0.1:${port}/admin/four:v1`, { credentials });
    expect(received).toBe(sent);
    expect(await refused(url.replace("127.0.0.1", "[::1]"))).toBe(true);
  });

  test("over IPv6 alone, where IPv4 is refused", async () => {
    alone.write("conf/config.yaml", "FEATURE_LISTEN_IP_VERSION: IPv6\nFEATURE_USER_INITIALIZE: true\n");
    const { port, url } = await alone.serve(["--config", "conf", "--data", "data", "--listen", ":0"]);
    expect(url).toBe(`http://[::]:${port}`);
    const made = await fetch(`http://[::1]:${port}/api/v1/user/initialize`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "admin", password: adminPassword, email: "admin@example.com" }),
    });
    expect(made.status).toBe(200);
    expect(await refused(`http://127.0.0.1:${port}/v2/`)).toBe(true);
    const prefix = podman.hostsPrefix();
    const { sent, received } = await podman.roundTrip(`${ipv6Name}:${port}/admin/six:v1`, { credentials, prefix });
    expect(received).toBe(sent);
  });

  test("over both on one socket, which is the default", async () => {
    const { port, url } = await alone.serve(["--listen", ":0"], { env });
    expect(url).toBe(`http://[::]:${port}`);
    const four = await podman.roundTrip(`127.0.0.1:${port}/admin/both:v4`, { credentials });
    expect(four.received).toBe(four.sent);
    const prefix = podman.hostsPrefix();
    const six = await podman.roundTrip(`${ipv6Name}:${port}/admin/both:v6`, { credentials, prefix });
    expect(six.received).toBe(six.sent);
  });

  test("where the kernel has no IPv6, though the default asks for both", async () => {
    // -D: the registry stays the process that is started and stopped, strace stands beside it.
    const inject = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=socket:error=EAFNOSUPPORT:when=1"];
    const wrapper = [requireTool("strace"), ...inject, "-e", "trace=socket"];
    const { port, url } = await alone.serve(["--listen", ":0"], { env, wrapper });
    expect(url).toBe(`http://0.0.0.0:${port}`);
    const { sent, received } = await podman.roundTrip(`127.0.0.1:${port}/admin/old:v1`, { credentials });
    expect(received).toBe(sent);
  });

  test("over TLS with the certificate and key of the config directory", async () => {
    const name = "localhost";
    const certPath = alone.write("conf/ssl.cert", "");
    const keyPath = alone.write("conf/ssl.key", "");
    await runProcess({
      command: requireTool("openssl"),
      args: [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
        ...["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`, "-keyout", keyPath, "-out", certPath],
      ],
    });
    // Clients are sent to this name for their tokens, so it has the port.
    const port = await freePort();
    alone.write(
      "conf/config.yaml",
      `SERVER_HOSTNAME: ${name}:${port}\nPREFERRED_URL_SCHEME: https\nFEATURE_USER_INITIALIZE: true\n`,
    );
    const { url } = await alone.serve(["--config", "conf", "--data", "data", "--listen", `127.0.0.1:${port}`]);
    expect(url).toBe(`https://127.0.0.1:${port}`);
    const tls = { ca: await Bun.file(certPath).text() };
    const made = await fetch(`https://${name}:${port}/api/v1/user/initialize`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "admin", password: adminPassword, email: "admin@example.com" }),
      tls,
    });
    expect(made.status).toBe(200);
    expect(await refused(`http://127.0.0.1:${port}/v2/`)).toBe(true);
    const running = await alone.run("check", "--running", "--config", "conf", "--listen", `127.0.0.1:${port}`);
    expect(running).toMatchObject({ code: 0, stdout: expect.stringContaining("/health/instance answers 200") });

    // podman trusts what is in a folder of its own, as ca.crt.
    const trust = alone.write("trust/ca.crt", tls.ca);
    const { sent, received } = await podman.roundTrip(`${name}:${port}/admin/tls:v1`, {
      credentials,
      tls: ["--cert-dir", join(trust, "..")],
    });
    expect(received).toBe(sent);
  });

  test.skipIf(!isRoot)("on a machine that has IPv6 and nothing else", async () => {
    const ip = requireTool("ip");
    const space = `berth-test-${process.pid}`;
    const call = (...args: string[]) => runProcess({ command: ip, args });
    await call("netns", "add", space);
    try {
      await call("-n", space, "link", "set", "lo", "up");
      await call("-n", space, "-4", "address", "flush", "dev", "lo");
      await call("-n", space, "-4", "route", "flush", "table", "all").catch(() => undefined);
      const inside = [ip, "netns", "exec", space];
      const { port, url } = await alone.serve(["--listen", ":0"], { env, prefix: inside });
      expect(url).toBe(`http://[::]:${port}`);
      const prefix = [...inside, ...podman.hostsPrefix()];
      const { sent, received } = await podman.roundTrip(`${ipv6Name}:${port}/admin/only6:v1`, { credentials, prefix });
      expect(received).toBe(sent);
    } finally {
      await alone.remove();
      await call("netns", "delete", space);
      alone = await placeAlone();
    }
  });
});
