/** `berth gc` beside a running registry: what it tells, what it collects, how it exits. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { isAnythingDue } from "../../src/domain/gc/round.ts";
import { runRound } from "../../src/workers/gc-round.ts";
import { dayMs, type GcWorld, startGcWorld, windowMs } from "../gc/world.ts";
import { type CommandResult, exitCodes, runBerth } from "./command.ts";

setDefaultTimeout(60_000);

let world: GcWorld;
beforeAll(async () => {
  world = await startGcWorld();
}, 120_000);
afterAll(() => world?.stop());

/** The server's own collection is off, so that the command finds something; its own config turns it on. */
function gc(args: readonly string[], isOn = true, more: Record<string, unknown> = {}): Promise<CommandResult> {
  const { dataDir, environment } = world.api.berth;
  const features = isOn
    ? {
        FEATURE_GARBAGE_COLLECTION: true,
        FEATURE_REPOSITORY_GARBAGE_COLLECTION: true,
        FEATURE_NAMESPACE_GARBAGE_COLLECTION: true,
      }
    : { FEATURE_AUTO_PRUNE: false };
  const overrides = JSON.parse(environment.QUAY_OVERRIDE_CONFIG ?? "{}") as Record<string, unknown>;
  const env = { ...environment, QUAY_OVERRIDE_CONFIG: JSON.stringify({ ...overrides, ...features, ...more }) };
  return runBerth(["gc", "--data", dataDir, ...args], { cwd: dataDir, env });
}

const ok = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await gc(args);
  expect({ code, stderr }).toEqual({ code: exitCodes.ok, stderr: "" });
  return stdout;
};

test("a deleted tag: kept for its window, then due, then gone, each time in the command's words", async () => {
  const { admin } = world.api;
  const image = await admin.pushImage("admin/a", "v1", { layerBytes: 3 * 1024 * 1024 });
  const digest = image.descriptor.digest;
  const layer = image.layers[0]?.digest ?? "";
  expect(await ok("--dry-run", "admin/a:v1")).toBe(
    [
      "tag admin/a:v1: kept",
      `  - it points at ${digest}`,
      `manifest ${digest} (${image.manifest.length} bytes): kept`,
      '  - tag "v1" points at it',
      "",
    ].join("\n"),
  );
  expect(await ok()).toBe("nothing was due\n");

  const options = { method: "DELETE", scope: "repository:admin/a:delete" };
  expect((await admin.request("/v2/admin/a/manifests/v1", options)).status).toBe(202);
  expect(await ok("--dry-run", layer)).toMatch(
    new RegExp(
      [
        `^blob ${layer} \\(3\\.0 MiB\\): kept until 20\\S+Z \\(14 days\\), as things stand`,
        '  - repository "admin/a" has it, until 20\\S+Z',
        "    - a manifest there names it, until 20\\S+Z",
        '      - tag "v1" has pointed at it and can be restored, until 20\\S+Z',
      ].join("\n"),
    ),
  );
  expect(await ok("--status")).toContain("later               3.0 MiB  2 blobs");

  await world.pass(windowMs + dayMs);
  expect(await ok("--dry-run", layer)).toBe(`blob ${layer} (3.0 MiB): due: the next round takes it\n`);
  const json = JSON.parse(await ok("--dry-run", `admin/a@${digest}`, "--json"));
  expect(json).toMatchObject({ kind: "manifest", state: "due", exact: true, reasons: [] });
  expect(await ok("--status")).toMatch(/ended tags in the time machine +1 +1 {2}20/);
  expect(await world.stored()).toContain(layer);
  expect(await ok()).toStartWith(
    "freed 3.0 MiB in 2 blobs; removed 0 repositories, 0 namespaces and rows of\n  tag: 1\n",
  );
  expect(await world.stored()).toEqual([]);
  expect((await admin.pullManifest("admin/a", digest)).status).toBe(404);

  expect(await ok("--status")).toMatch(/freed since 20[\d-]+\n {2}in all +3\.0 MiB {2}2 blobs, \d+ rows\n/);
  const { freed, reclaimable } = JSON.parse(await ok("--status", "--json"));
  const bytes = [image.config, ...image.layers].reduce((sum, { size }) => sum + size, 0);
  expect(freed.today.bytes).toBe(bytes);
  expect(reclaimable.exact).toBe(true);
});

test("--json of a round says what went", async () => {
  const { admin } = world.api;
  await admin.pushImage("admin/b", "v1");
  const su = await world.api.as("admin");
  expect((await su.delete("/repository/admin/b")).status).toBe(204);
  await world.pass(windowMs + dayMs);
  const tally = JSON.parse(await ok("--json"));
  expect(tally).toMatchObject({
    blobs: 2,
    repositories: 1,
    namespaces: 0,
    failures: 0,
    rows_by_table: { manifest: 1 },
  });
});

const refused: [string, string[], number, string][] = [
  ["a word without an option", ["admin/a:v1"], exitCodes.usage, "what to explain is named with --dry-run"],
  ["two questions at once", ["--status", "--dry-run", "admin/a"], exitCodes.usage, "two questions"],
  ["nothing to explain", ["--dry-run"], exitCodes.usage, "argument missing"],
  ["what nobody knows", ["--dry-run", "admin/none:v1"], exitCodes.failed, 'there is no repository "admin/none"'],
  ["what is no digest", ["--dry-run", "admin/a@v1"], exitCodes.failed, 'invalid digest "v1"'],
];
test.each(refused)("%s is refused", async (_, args, code, text) => {
  const result = await gc(args);
  expect(result.stderr).toContain(text);
  expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: "" });
});

test("a config that lets nothing be collected is told, and --status works with it", async () => {
  await world.api.admin.pushImage("admin/c", "v1");
  const { code, stdout, stderr } = await gc([], false);
  expect({ code, stdout }).toEqual({ code: exitCodes.config, stdout: "" });
  expect(stderr).toContain("FEATURE_GARBAGE_COLLECTION");
  const explained = await gc(["--dry-run", "admin/c"], false);
  expect(explained.stdout).toContain("\nFEATURE_GARBAGE_COLLECTION is off in this config");
  const status = await gc(["--status"], false);
  expect(status.code).toBe(exitCodes.ok);
  expect(status.stdout).toContain("off: garbage collection, repositories, namespaces, auto prune");
});

test("a read-only registry keeps everything: neither the command nor a worker takes what is due", async () => {
  const { admin, app } = world.api;
  const image = await admin.pushImage("admin/frozen", "v1");
  const options = { method: "DELETE", scope: "repository:admin/frozen:delete" };
  expect((await admin.request("/v2/admin/frozen/manifests/v1", options)).status).toBe(202);
  const su = await world.api.as("admin");
  await admin.pushImage("admin/frozen-too", "v1");
  expect((await su.delete("/repository/admin/frozen-too")).status).toBe(204);
  await world.pass(windowMs + dayMs);
  const before = await world.stored();
  expect(before).toContain(image.config.digest);

  const { code, stderr } = await gc([], true, { REGISTRY_STATE: "readonly" });
  expect(code).toBe(exitCodes.config);
  expect(stderr).toContain("REGISTRY_STATE is readonly: nothing is collected");
  const on = { FEATURE_GARBAGE_COLLECTION: true, FEATURE_REPOSITORY_GARBAGE_COLLECTION: true } as const;
  const frozen = { ...app, config: { ...app.config, ...on, REGISTRY_STATE: "readonly" as const } };
  expect((await runRound(frozen, new AbortController().signal)).isEmpty).toBe(true);
  expect([await isAnythingDue(frozen), await world.stored()]).toEqual([false, before]);

  const open = { ...app, config: { ...app.config, ...on } };
  expect(await isAnythingDue(open)).toBe(true);
  await runRound(open, new AbortController().signal);
  expect(await world.stored()).not.toContain(image.config.digest);
});
