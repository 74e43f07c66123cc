/** What each command answers and how it exits, over the real process. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { makeTempDir } from "../support/temp-dir.ts";
import { type CommandResult, exitCodes, runBerth } from "./command.ts";

setDefaultTimeout(60_000);
const dir = makeTempDir("cli");
afterAll(() => dir.remove());

const run = (args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> =>
  runBerth(args, { cwd: dir.path, env });

/** A config directory with these lines in config.yaml. */
function configDir(name: string, yaml: string): string {
  const path = join(dir.path, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "config.yaml"), yaml);
  return path;
}

describe("the command line", () => {
  test("version says what this is and writes nothing to disk", async () => {
    const before = readdirSync(dir.path);
    for (const name of ["version", "--version"]) {
      const { code, stdout, stderr } = await run([name]);
      expect({ code, stderr }).toEqual({ code: exitCodes.ok, stderr: "" });
      expect(stdout).toStartWith(`berth ${packageJson.version} (bun `);
    }
    expect(readdirSync(dir.path)).toEqual(before);
  });

  test("help lists the commands on stdout, no command at all does so on stderr", async () => {
    for (const args of [["help"], ["--help"]]) {
      const { code, stdout } = await run(args);
      expect(code).toBe(exitCodes.ok);
      for (const name of ["serve", "check", "migrate", "user", "version"]) expect(stdout).toContain(`\n  ${name}`);
    }
    const { code, stdout, stderr } = await run([]);
    expect({ code, stdout }).toEqual({ code: exitCodes.usage, stdout: "" });
    expect(stderr).toStartWith("usage: berth COMMAND");
  });

  const helped: [string, string[]][] = [
    ["serve", ["--listen", "--metrics-listen", "--processes"]],
    ["check", ["--running", "--listen"]],
    ["migrate", ["--from", "--to", "--check", "--reopen"]],
    ["gc", ["--status", "--dry-run", "--json"]],
    ["scrub", ["--location", "--blob", "--bytes-per-second", "--status", "--json"]],
    ["worker", ["gc|quota|scrub", "--metrics-listen"]],
    ["user", ["create NAME", "--password-stdin", "--role"]],
    ["storage", ["backfill", "--from", "--yes"]],
  ];
  test.each(helped)("%s --help tells its own options", async (command, options) => {
    const { code, stdout, stderr } = await run([command, "--help"]);
    expect({ code, stderr }).toEqual({ code: exitCodes.ok, stderr: "" });
    expect(stdout).toStartWith(`usage: berth ${command} `);
    for (const option of [...options, "--config", "--data"]) expect(stdout).toContain(option);
  });

  test.each(["gc", "gc --status", "scrub", "scrub --status"])(
    "%s where no registry is says so and makes none",
    async (command) => {
      const before = readdirSync(dir.path);
      const { code, stdout, stderr } = await run([...command.split(" "), "--data", "elsewhere"]);
      expect(stderr).toContain("there is no registry:");
      expect(stderr).toContain("elsewhere/berth.db");
      expect({ code, stdout }).toEqual({ code: exitCodes.usage, stdout: "" });
      expect(readdirSync(dir.path)).toEqual(before);
    },
  );

  const refused: [string, string[], string][] = [
    ["an unknown command", ["sevre"], 'berth: unknown command "sevre", use one of serve, check'],
    ["a word from every object", ["constructor"], 'berth: unknown command "constructor"'],
    ["an unknown option", ["serve", "--prot", "80"], "berth serve: Unknown option '--prot'"],
    ["an option without its value", ["serve", "--listen"], "berth serve: Option '--listen <value>' argument missing"],
    ["an address that is none", ["serve", "--listen", "here"], '"here" is no address to listen on'],
    ["a port that is none", ["serve", "--listen", ":70000"], '":70000" is no address to listen on'],
    ["no address", ["serve", "--listen", "off"], "berth serve: --listen cannot be off"],
    ["no number of processes", ["serve", "--processes", "many"], "use a whole number from 1 to 256"],
    ["an unknown user command", ["user", "remove", "x"], "usage: berth user COMMAND"],
    ["a user command with too few words", ["user", "create"], "usage: berth user COMMAND"],
    ...["config", "backup", "restore", "import"].map((name): [string, string[], string] => [
      `${name}, which comes later`,
      [name],
      `berth ${name}: not in this build yet`,
    ]),
  ];
  test.each(refused)("%s is refused with 64", async (_, args, text) => {
    const { code, stdout, stderr } = await run(args);
    expect(stderr).toContain(text);
    expect({ code, stdout }).toEqual({ code: exitCodes.usage, stdout: "" });
  });
});

describe("a wrong config", () => {
  const yaml = [
    "DB_URI: 5",
    "V2_PAGINATION_SIZE: lots",
    'SERVER_HOSTNAME: "a b"',
    "PREFERRED_URL_SCHEME: gopher",
    "SECRET_KEY: 'a-secret-nobody-may-see'",
    "FEATURE_USER_CREATON: true",
  ].join("\n");

  test.each(["serve", "check", "migrate", "user"])("ends %s with 78 and lists everything at once", async (command) => {
    const config = configDir("wrong", yaml);
    const { code, stderr } = await run([command, ...(command === "user" ? ["list"] : []), "--config", config]);
    expect(code).toBe(exitCodes.config);
    for (const key of ["DB_URI", "V2_PAGINATION_SIZE", "SERVER_HOSTNAME", "PREFERRED_URL_SCHEME"]) {
      expect(stderr).toContain(`config: ${key} must be`);
    }
    expect(stderr).toContain('It is "lots".');
    expect(stderr).not.toContain("a-secret-nobody-may-see");
  });

  test("that is not there, no YAML, or in the environment is named", async () => {
    const missing = await run(["check", "--config", "nowhere"]);
    expect(missing.stderr).toContain('cannot read the config "nowhere": no such file or directory');
    const broken = await run(["check", "--config", configDir("broken", "A: [1\nB: }")]);
    expect(broken.stderr).toContain("config.yaml");
    const override = await run(["check"], { QUAY_OVERRIDE_CONFIG: '{"V2_PAGINATION_SIZE": "lots"}' });
    expect(override.stderr).toContain("V2_PAGINATION_SIZE must be a number");
    expect([missing.code, broken.code, override.code]).toEqual([78, 78, 78]);
  });

  test("is known by what this build cannot do", async () => {
    const mysql = await run(["check", "--config", configDir("mysql", "DB_URI: mysql+pymysql://u:geheim@db/quay\n")]);
    expect(mysql.code).toBe(exitCodes.config);
    expect(mysql.stderr).toContain("MySQL");
    expect(mysql.stderr).not.toContain("geheim");
    const ldap = await run(["check", "--config", configDir("ldap", "AUTHENTICATION_TYPE: LDAP\n")]);
    expect(ldap.code).toBe(exitCodes.config);
    expect(ldap.stderr).toContain('AUTHENTICATION_TYPE "LDAP" is not in this build yet');
  });
});

describe("check and migrate", () => {
  test("a good config is reported part by part with 0, and odd keys are warned of with a guess", async () => {
    const config = configDir(
      "good",
      "DB_URI: sqlite:///berth.db\nFEATURE_USER_CREATON: false\nFEATURE_PROXY_CACHE: true\n",
    );
    const { code, stdout, stderr } = await run(["check", "--config", config, "--data", "good-data"]);
    expect({ code, stderr }).toEqual({ code: exitCodes.ok, stderr: "" });
    expect(stdout).toMatch(/^warning {2}.*FEATURE_USER_CREATON.*FEATURE_USER_CREATION/m);
    expect(stdout).toMatch(/^warning {2}.*does not act on them yet: FEATURE_PROXY_CACHE$/m);
    expect(stdout).toMatch(/^ok {7}config$/m);
    expect(stdout).toMatch(/^ok {7}database: sqlite answers, schema version 0$/m);
    expect(stdout).toMatch(/^ok {7}storage: default can be read and written$/m);
  });

  test("migrate says what it did, the second time that there was nothing to do", async () => {
    const first = await run(["migrate", "--data", "migrated"]);
    expect(first).toMatchObject({ code: exitCodes.ok, stderr: "" });
    expect(first.stdout).toStartWith("applied migrations 1");
    const second = await run(["migrate", "--data", "migrated"]);
    expect(second).toEqual({ code: exitCodes.ok, stdout: "the schema is up to date\n", stderr: "" });
    const { stdout } = await run(["check", "--data", "migrated"]);
    expect(stdout).toMatch(/schema version [1-9]/);
  });

  let stranger: Server;
  let port = 0;
  beforeAll(async () => {
    // Something that accepts and says nothing PostgreSQL would say.
    stranger = createServer((socket) => socket.end("SSH-2.0-none\r\n"));
    await new Promise<void>((resolve) => stranger.listen(0, "127.0.0.1", resolve));
    const address = stranger.address();
    port = typeof address === "object" && address !== null ? address.port : 0;
  });
  afterAll(() => stranger.close());

  test("check goes on after a failure, names both, and ends with 69", async () => {
    const blobs = join(dir.path, "no-folder");
    writeFileSync(blobs, "a file");
    const config = configDir(
      "unreachable",
      `DB_URI: postgresql://berth:geheim@127.0.0.1:1/berth\nDISTRIBUTED_STORAGE_CONFIG: {here: [LocalStorage, {storage_path: ${blobs}}]}\n`,
    );
    const { code, stdout, stderr } = await run(["check", "--config", config]);
    expect(code).toBe(exitCodes.unavailable);
    expect(stdout).toMatch(/^failed {3}database: /m);
    expect(stdout).toMatch(/^failed {3}storage: .*no-folder/m);
    expect(stdout + stderr).not.toContain("geheim");
  });

  test("check does not take another server for the database", async () => {
    const config = configDir("stranger", `DB_URI: postgresql://berth@127.0.0.1:${port}/berth\n`);
    const { code, stdout } = await run(["check", "--config", config, "--data", "stranger-data"]);
    expect(code).toBe(exitCodes.unavailable);
    expect(stdout).toMatch(/^failed {3}database: /m);
  });
});

describe("serve that cannot start", () => {
  test("names the address that another program has", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const address = taken.address();
    const where = `127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
    for (const [listen, metrics] of [
      [where, "off"],
      ["127.0.0.1:0", where],
    ] as const) {
      const args = ["serve", "--data", "taken-data", "--listen", listen, "--metrics-listen", metrics];
      const { code, stderr } = await run(args);
      expect(stderr).toContain(`berth serve: cannot listen on ${where}: another program listens there`);
      expect(code).toBe(exitCodes.failed);
    }
    taken.close();
  });

  test("names the address that is not this machine's", async () => {
    const { code, stderr } = await run(["serve", "--data", "taken-data", "--listen", "203.0.113.9:8080"]);
    expect(stderr).toContain("cannot listen on 203.0.113.9:8080: this machine has no such address");
    expect(code).toBe(exitCodes.failed);
  });

  test("names the data directory that is a file", async () => {
    writeFileSync(join(dir.path, "a-file"), "");
    const { code, stderr } = await run(["serve", "--data", "a-file", "--listen", "127.0.0.1:0"]);
    expect(stderr).toContain("a-file");
    expect(code).toBe(exitCodes.unavailable);
  });

  test("refuses a schema newer than itself", async () => {
    await run(["migrate", "--data", "newer"]);
    const { Database } = await import("bun:sqlite");
    const db = new Database(join(dir.path, "newer", "berth.db"));
    const last = db.query("select max(id) as id from schema_migration").get() as { id: number };
    db.run("insert into schema_migration (id, name, applied_ms, checksum) values (?, 'later', 0, 'x')", [last.id + 1]);
    db.close();
    const { code, stderr } = await run(["serve", "--data", "newer", "--listen", "127.0.0.1:0"]);
    expect(stderr).toContain("the database was used by a newer version");
    expect(code).not.toBe(exitCodes.ok);
  });
});
