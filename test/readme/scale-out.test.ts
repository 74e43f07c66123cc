/**
 * The README's way from one machine to many, walked as it is written: from a registry on SQLite and a disk to two instances of
 * the single binary on PostgreSQL and S3 behind nginx. Addresses, ports and the store are this machine's.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import { createTestDatabase } from "../support/postgres.ts";
import type { RunningProcess } from "../support/process.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { block, readme } from "./blocks.ts";
import { Walk } from "./walk.ts";

setDefaultTimeout(180_000);
const balancer = "127.0.0.1:8080";
const [one, two] = ["127.0.0.1:8081", "127.0.0.1:8082"] as const;
let walk: Walk;
let s3: S3Server | undefined;
let first: RunningProcess | undefined;
let stopPulling: (() => Promise<number>) | undefined;

beforeAll(async () => {
  walk = await Walk.begin("scale-out", "scale-out-password");
  for (const address of [balancer, one, two, "127.0.0.1:9081", "127.0.0.1:9082"]) await walk.give(address);
  walk.replace("postgresql://berth:secret@127.0.0.1:5432/berth", await createTestDatabase());
  s3 = await startS3();
  const shown = /^ {2}s3: (\[.*\])$/m.exec(block("run", "scale-config"))?.[1] ?? "";
  walk.replace(shown, JSON.stringify(s3.engineConfig(await s3.createBucket(), { storage_path: "/" })));
});
afterAll(async () => {
  await walk?.end();
  await s3?.stop();
});

describe("beside a running registry", () => {
  test("which is on SQLite and a disk", async () => {
    expect(readme).toContain("`berth serve --data berth-data`");
    first = await walk.start(`berth serve --data berth-data --listen ${one} --metrics-listen off`);
    await walk.push(one, "on-disk");
  });

  test("1. a config with the new store is made, checked and served", async () => {
    const output = await walk.run(block("run", "scale-config"));
    expect(output).toContain("default, s3 can be read and written");
    expect(output).not.toContain("warning");
    expect(await first?.stop(60_000)).toBe(0);
    first = await walk.start(block("start", "scale-first"));
  });

  test("2. nginx takes over its address, and what is on the disk is copied", async () => {
    await walk.startBalancer(walk.local(block("check", "scale-nginx")), walk.local(balancer));
    await walk.push(balancer, "in-store");
    stopPulling = walk.pullOn(balancer);
    const output = await walk.run(block("run", "scale-copy"));
    expect(output).toContain('every blob of "default" is in "s3"');
    expect(output).toMatch(/^s3 +S3Storage +ok +6 /m);
  });

  test("3. the database is moved, and the registry takes no pushes until it is restarted", async () => {
    expect(await walk.run(block("run", "scale-migrate"))).toMatch(/moved \d+ rows of \d+ tables/);
    await walk.pullAll(one);
    await expect(walk.client(one).pushImage("admin/app", "late")).rejects.toThrow("has moved");
  });

  test("4. two instances serve what was pushed before and what comes now, and no pull has failed on the way", async () => {
    expect(await walk.run(block("run", "scale-switch"))).toContain("database: postgres answers");
    await walk.start(block("start", "scale-second"));
    expect(await first?.stop(60_000)).toBe(0);
    first = await walk.start(block("start", "scale-first"));
    for (const tag of ["v1", "v2", "v3"]) await walk.push(balancer, tag);
    expect(await stopPulling?.()).toBeGreaterThan(0);
    for (const address of [balancer, one, two]) await walk.pullAll(address);
  });

  test("and the disk is forgotten", async () => {
    expect(await walk.run(block("run", "scale-forget"))).toContain("Deleted location default");
    await walk.pullAll(balancer);
  });

  test("an instance that is restarted is not missed", async () => {
    const stop = walk.pullOn(balancer);
    expect(await first?.stop(60_000)).toBe(0);
    await walk.push(balancer, "with-one");
    await walk.start(block("start", "scale-first"));
    await walk.push(balancer, "with-both");
    expect(await stop()).toBeGreaterThan(0);
    await walk.pullAll(one);
  });
});

describe("what else it says", () => {
  test.each(["scale-sites", "stores"])('the config "%s" is right and wholly acted on', (name) => {
    const dir = join(walk.here, name);
    mkdirSync(dir);
    writeFileSync(join(dir, "config.yaml"), block("check", name));
    const { config, warnings } = loadConfig({ configPath: dir, dataDir: dir, env: {} });
    expect(Object.keys(config.DISTRIBUTED_STORAGE_CONFIG).length).toBeGreaterThan(1);
    expect(warnings).toEqual([]);
  });

  test("a site turns the order of its stores round", () => {
    const shown = /`QUAY_DISTRIBUTED_STORAGE_PREFERENCE=([a-z,]+)`/.exec(readme)?.[1] ?? "";
    const env = { QUAY_DISTRIBUTED_STORAGE_PREFERENCE: shown };
    const { config } = loadConfig({ configPath: join(walk.here, "scale-sites"), dataDir: walk.here, env });
    expect(config.DISTRIBUTED_STORAGE_PREFERENCE).toEqual(["america", "europe"]);
  });

  test("the commands for stores are those that there are", async () => {
    const shown = [...readme.matchAll(/^\| `berth storage ([a-z-]+)/gm)].map(([, name]) => name);
    const usage = await walk.run("berth storage 2>&1 || test $? = 64");
    const known = [...usage.matchAll(/^ {2}([a-z-]+) /gm)].map(([, name]) => name);
    expect(shown.toSorted()).toEqual(known.toSorted());
  });
});
