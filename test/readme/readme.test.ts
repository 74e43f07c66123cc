/**
 * The README's commands do what it says: blocks marked `<!-- run: name -->` are run as they stand, one after another, by a
 * shell in an empty directory. Only the port is another one, and `npm start` gets the options that keep it to this test.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { buildBinary } from "../../scripts/build.ts";
import { rootDir } from "../../scripts/parts.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ignoredKeys } from "../../src/config/support.ts";
import { freePort, processTree, type RunningProcess, startProcess } from "../support/process.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { requireTool } from "../support/tools.ts";
import { block, readme } from "./blocks.ts";

setDefaultTimeout(180_000);
const dir = makeTempDir("readme");
const here = join(dir.path, "here");
let port = 0;
let server: RunningProcess | undefined;

/** As a reader's shell, with storage and log-ins of its own. */
async function shell(script: string, cwd = here): Promise<string> {
  const child = startProcess({
    command: requireTool("bash"),
    args: ["-euo", "pipefail", "-c", script],
    cwd,
    env: {
      PATH: `${join(dir.path, "bin")}:${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: dir.path,
      CONTAINERS_STORAGE_CONF: join(dir.path, "storage.conf"),
      REGISTRY_AUTH_FILE: join(dir.path, "auth.json"),
      BUILDAH_ISOLATION: "chroot",
      no_proxy: "*",
    },
    name: "bash",
  });
  const code = await child.exited;
  await child.stop();
  const output = child.stdout() + child.stderr();
  if (code !== 0) throw new Error(`ended with ${code}:\n${script}\n${output}`);
  return output;
}

const onPort = (script: string) => script.replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`);

beforeAll(async () => {
  port = await freePort();
  for (const each of ["here", "bin"]) mkdirSync(join(dir.path, each));
  writeFileSync(
    join(dir.path, "storage.conf"),
    `[storage]\ndriver = "vfs"\ngraphroot = "${dir.path}/images"\nrunroot = "${dir.path}/images-run"\n`,
  );
  writeFileSync(join(dir.path, "auth.json"), "{}");
  symlinkSync(await buildBinary(join(dir.path, "berth-binary")), join(dir.path, "bin", "berth"));
});
afterAll(async () => {
  await server?.stop();
  dir.remove();
});

describe("the first command", () => {
  test("gives a running registry that stops at Ctrl-C", async () => {
    expect(block("run", "start")).toBe("npm ci && npm start\n");
    // "npm ci" has been run: this test is started by what it installs.
    const options = `--data ${here}/berth-data --listen 127.0.0.1:${port} --metrics-listen off`;
    server = startProcess({
      command: requireTool("npm"),
      args: ["start", "--", ...options.split(" ")],
      cwd: rootDir,
      name: "npm start",
    });
    await server.waitForLine(/"msg":"listening"/, 30_000);
    expect(server.stderr()).toContain('first start: user "admin" with password');
    expect((await fetch(`http://127.0.0.1:${port}/v2/`)).status).toBe(401);
  });
});

describe("the commands after it", () => {
  test("podman pushes and pulls", async () => {
    const output = await shell(onPort(block("run", "podman")));
    expect(output).toContain("Login Succeeded!");
  });

  test("skopeo copies, lists and inspects", async () => {
    const output = await shell(onPort(block("run", "skopeo")));
    expect(output).toMatch(/"Tags": \[\s*"v1",\s*"v2"\s*\]/);
    expect(output).toMatch(/"Digest": "sha256:[0-9a-f]{64}"/);
  });

  test("skopeo moves a repository", async () => {
    await shell(onPort(block("run", "sync")));
    const tags = await shell(`skopeo list-tags --tls-verify=false docker://127.0.0.1:${port}/admin/moved/hello`);
    expect(tags).toMatch(/"Tags": \[\s*"v1",\s*"v2"\s*\]/);
  });

  test("users and robots are made beside the running registry", async () => {
    const output = await shell(block("run", "users"));
    expect(output).toContain('user "bob" created');
    expect(output).toContain('"admin+ci" has role write on "admin/hello"');
    expect(output).toContain('"admin/hello" is private');
  });

  test("curl alone makes an organization with teams, robots, default permissions and policies", async () => {
    const script = onPort(block("run", "api"));
    const output = await shell(script);
    expect(output).toContain('"new_team":true');
    const [tag] = (/^\{"tags":\[(.*)\],"page":1,/m.exec(output) ?? []).slice(1);
    expect(JSON.parse(tag ?? "{}")).toMatchObject({ name: "v1.0", immutable: true });
    expect(output).toMatch(/^\{"repository":"acme\/app".*"allowed":true/m);
    const image = `127.0.0.1:${port}/acme/app:v1.0`;
    const over = `echo other > hello.txt && podman build -t ${image} . &&
      podman push --tls-verify=false --creds "acme+ci:$robot_token" ${image}`;
    const again = script
      .split("\n")
      .filter((line) => /^(registry=|csrf|session\(|api\(|client=|token=|robot_token=| {2}-d)/.test(line));
    expect(again.length).toBeGreaterThan(5);
    await expect(shell([...again, over].join("\n"))).rejects.toThrow("immutable");
  });

  test("the binary's own commands answer", async () => {
    expect(block("run", "build")).toBe("npm run build\n");
    const script = block("run", "commands").replace("--running ", `--running --listen 127.0.0.1:${port} `);
    const output = await shell(script);
    expect(output).toContain("database: sqlite answers");
    expect(output).toContain("/health/instance answers 200");
    expect(output).toContain("the schema is up to date");
  });

  test("and SIGTERM to npm stops the registry behind it, with 0", async () => {
    const pids = processTree(server?.pid ?? 0);
    expect(pids.length).toBeGreaterThan(1);
    expect(await server?.stop(20_000)).toBe(0);
    await Bun.sleep(200);
    await expect(fetch(`http://127.0.0.1:${port}/v2/`)).rejects.toThrow();
  });
});

describe("what it says about configuration", () => {
  test("the example is right and wholly acted on", () => {
    writeFileSync(join(here, "config.yaml"), block("check", "config"));
    const { warnings } = loadConfig({ configPath: here, dataDir: here, env: {} });
    expect(warnings).toEqual([]);
  });

  test("the compose file's override is right", () => {
    const compose = Bun.YAML.parse(block("check", "compose")) as {
      services: { berth: { environment: Record<string, string> } };
    };
    const { config, warnings } = loadConfig({ dataDir: here, env: compose.services.berth.environment });
    expect(config.DB_URI).toBe("postgresql://berth:secret@postgres:5432/berth");
    expect(warnings).toEqual([]);
  });

  test("every key it names as acted on is, and every other default it names is true", () => {
    const section = readme.slice(readme.indexOf("Acted on today:"), readme.indexOf("Defaults that differ"));
    const keys = [...section.matchAll(/`([A-Z][A-Z0-9_]+)`/g)].map(([, key]) => key ?? "");
    expect(keys.length).toBeGreaterThan(40);
    expect(ignoredKeys(new Map(keys.map((key) => [key, { not: "the default" }])))).toEqual([]);

    const { config } = loadConfig({ dataDir: here, env: {} });
    const rows = [...readme.matchAll(/^\| `([A-Z0-9_]+)` \| [^|]+ \| `([^`]+)` \|/gm)];
    expect(rows.length).toBeGreaterThanOrEqual(6);
    for (const [, key = "", value = ""] of rows) {
      expect({ key, value: String((config as unknown as Record<string, unknown>)[key]) }).toEqual({ key, value });
    }
  });
});
