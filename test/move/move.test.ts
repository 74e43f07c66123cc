/**
 * `berth migrate --from --to` beside a registry that is being pushed to: nothing that was acknowledged is lost, nothing that
 * the registry says changes, and what runs on the old database takes no changes any more.
 */

import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type Api, startApi } from "../api/harness.ts";
import { type CommandResult, exitCodes, runBerth } from "../cli/command.ts";
import { eventually } from "../registry/harness.ts";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { digestOf, RegistryClient } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { answersOf, makeWorld, useWorld } from "./world.ts";

setDefaultTimeout(300_000);
/** Where the load goes: nothing of the world changes by it. */
const LOAD = "admin/load";
const PUSHERS = 3;

const dir = makeTempDir("move");
let server: Promise<TestPostgres> | undefined;
const stops: (() => Promise<void>)[] = [];
let files = 0;

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});
afterAll(async () => {
  await (await server)?.stop();
  dir.remove();
});

type Engine = "sqlite" | "postgresql";

async function newDatabase(engine: Engine): Promise<string> {
  if (engine === "sqlite") return `sqlite:///${join(dir.path, `berth-${++files}.db`)}`;
  server ??= startPostgres();
  return (await server).createDatabase();
}

const keys = (uri: string) => ({
  DB_URI: uri,
  SUPER_USERS: ["admin"],
  FEATURE_IMMUTABLE_TAGS: true,
  FEATURE_AUTO_PRUNE: true,
  FEATURE_USER_LAST_ACCESSED: false,
});

async function serve(uri: string): Promise<Api> {
  const api = await startApi(keys(uri));
  stops.push(() => api.stop());
  return api;
}

async function serveAgain(uri: string, source: Api): Promise<BerthServer> {
  const listen = source.berth.host;
  await source.berth.shutDown();
  const { dataDir } = source.berth;
  const env = { QUAY_OVERRIDE_CONFIG: JSON.stringify(keys(uri)) };
  const berth = await startBerth({ database: "sqlite", dataDir, env, listen });
  stops.push(() => berth.stop());
  return berth;
}

const migrate = (...args: string[]): Promise<CommandResult> =>
  runBerth(["migrate", ...args, "--data", join(dir.path, "data")], { cwd: dir.path, timeoutMs: 240_000 });

/** Pushes small images one after another until it is told to stop. Remembers what was acknowledged. */
class Load {
  readonly acknowledged: { readonly tag: string; readonly digest: string }[] = [];
  /** Texts of refusals that say that the registry has moved. */
  readonly moved: string[] = [];
  readonly odd: string[] = [];
  #stopped = false;
  readonly #pushers: Promise<void>[];

  constructor(api: Api) {
    this.#pushers = Array.from({ length: PUSHERS }, (_, pusher) => this.#push(api, pusher));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#pushers);
  }

  async #push({ berth }: Api, pusher: number): Promise<void> {
    const client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
    for (let count = 0; !this.#stopped; count++) {
      const tag = `p${pusher}-${count}`;
      try {
        const { response, manifest } = await client.pushImage(LOAD, tag);
        if (response.status === 201) this.acknowledged.push({ tag, digest: digestOf(manifest) });
        else this.#note(response.status, await response.text());
      } catch (error) {
        this.#note(0, String(error));
      }
    }
  }

  /** While the source is closed for a moment a writer may wait too long; a client tries again, and so does this. */
  #note(status: number, text: string): void {
    if (text.includes("has moved")) this.moved.push(text);
    else if (!/503/.test(`${status} ${text}`)) this.odd.push(`${status} ${text}`);
  }
}

describe.each([
  ["sqlite", "postgresql"],
  ["postgresql", "sqlite"],
] as const)("from %s to %s", (fromEngine, toEngine) => {
  test("a registry moves while it is pushed to", async () => {
    const [from, to] = [await newDatabase(fromEngine), await newDatabase(toEngine)];
    const api = await serve(from);
    const world = await makeWorld(api);
    // What is gathered beside requests is written within some seconds; the answers shall stand still.
    await settled(api, () => answersOf(api.berth.url, world));
    const before = await answersOf(api.berth.url, world);
    for (const [question, answer] of Object.entries(before)) {
      const wanted = question === "bob /repository/alice/gone" ? 403 : 200;
      expect([question, (answer as { status: number }).status]).toEqual([question, wanted]);
    }

    const load = new Load(api);
    await eventually(async () => load.acknowledged.length > 10, 60_000);
    const moved = await migrate("--from", from, "--to", to);
    expect(moved).toMatchObject({ code: exitCodes.ok });
    expect(moved.stdout).toMatch(/\nmoved \d+ rows of \d+ tables in [\d.]+ s, all equal in both databases;/);
    expect(moved.stdout + moved.stderr).not.toContain(passwordIn(to) ?? "no password");
    // Whoever still asks the old instance is refused, in words; pulls go on.
    await eventually(async () => load.moved.length >= PUSHERS, 60_000);
    await load.stop();
    expect(load.odd).toEqual([]);
    const last = load.acknowledged.at(-1);
    const old = new RegistryClient({ url: api.berth.url, username: world.robot.name, password: world.robot.token });
    expect((await old.pullManifest("acme/web/api", "latest")).status).toBe(200);
    await eventually(async () => api.berth.logs().includes("this database was moved"), 10_000);

    const berth = await serveAgain(to, api);
    const admin = new RegistryClient({ url: berth.url, username: "admin", password: api.berth.adminPassword });
    expect(await answersOf(berth.url, world)).toEqual(before);
    for (const { tag, digest } of load.acknowledged) {
      const pulled = await admin.pullManifest(LOAD, tag);
      expect([tag, pulled.status]).toEqual([tag, 200]);
      const bytes = new Uint8Array(await pulled.arrayBuffer());
      expect([tag, digestOf(bytes)]).toEqual([tag, digest]);
      const { layers } = JSON.parse(new TextDecoder().decode(bytes)) as { layers: { digest: string }[] };
      const blob = await admin.pullBlob(LOAD, layers[0]?.digest ?? "");
      expect([tag, digestOf(new Uint8Array(await blob.arrayBuffer()))]).toEqual([tag, layers[0]?.digest ?? "a layer"]);
    }
    expect(last).toBeDefined();
    await useWorld(berth.url, world);
    // New rows get ids of their own.
    expect((await admin.pushImage(LOAD, "after")).response.status).toBe(201);
    expect((await admin.pushImage("admin/another", "v1")).response.status).toBe(201);

    // Nobody starts on the old database by mistake.
    const stale = await runBerth(["serve", "--data", api.berth.dataDir], {
      cwd: dir.path,
      env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(keys(from)) },
    });
    expect(stale.code).toBe(exitCodes.config);
    expect(stale.stderr).toContain("DB_URI: this database was moved to");
    expect(stale.stderr).not.toContain(passwordIn(to) ?? "no password");
    const again = await migrate("--from", from, "--to", to);
    expect([again.code, again.stderr]).toEqual([exitCodes.failed, expect.stringContaining("Nothing is left to do")]);
  });

  test("a move that is killed is run again, and again, and ends right", async () => {
    const [from, to] = [await newDatabase(fromEngine), await newDatabase(toEngine)];
    const api = await serve(from);
    const world = await makeWorld(api);
    const load = new Load(api);
    const seed = Math.floor(Math.random() * 1e9);
    console.log(`kill times from seed ${seed}`);
    let kills = 0;
    // A whole run takes a second or two here: the kills fall anywhere in it, the last run is left alone.
    for (let state = seed; kills < 6; kills++) {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      const child = Bun.spawn(
        [process.execPath, join(import.meta.dir, "..", "..", "src", "main.ts"), "migrate", "--from", from, "--to", to],
        { cwd: dir.path, env: {}, stdio: ["ignore", "ignore", "ignore"] },
      );
      await Promise.race([Bun.sleep(200 + (state % 1_800)), child.exited]);
      child.kill("SIGKILL");
      if ((await child.exited) === 0) break;
    }
    await load.stop();
    const ended = await migrate("--from", from, "--to", to);
    if (ended.code !== exitCodes.ok) expect(ended.stderr).toContain("Nothing is left to do");
    expect(load.odd).toEqual([]);
    const berth = await serveAgain(to, api);
    const admin = new RegistryClient({ url: berth.url, username: "admin", password: api.berth.adminPassword });
    for (const { tag, digest } of load.acknowledged) {
      const pulled = await admin.pullManifest(LOAD, tag);
      expect([tag, digestOf(new Uint8Array(await pulled.arrayBuffer()))]).toEqual([tag, digest]);
    }
    await useWorld(berth.url, world);
  });
});

function passwordIn(uri: string): string | undefined {
  return uri.startsWith("sqlite") ? undefined : new URL(uri).password;
}

/** Waits until the same question gets the same answer twice, a flush of what is gathered apart. */
async function settled(api: Api, ask: () => Promise<unknown>): Promise<void> {
  let last = "";
  await eventually(async () => {
    await api.app.pulls.flush();
    await Bun.sleep(3_500);
    const now = JSON.stringify(await ask());
    const same = now === last;
    last = now;
    return same;
  }, 60_000);
}
