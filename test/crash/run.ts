/**
 * The crash test itself: several clients load a server, it is killed with SIGKILL at a random moment and started again on
 * the same data, and what it acknowledged is read back; a sample after each kill, everything at the end. Of a cluster one
 * instance after the other is killed, and the load goes on with the rest of them.
 */
import { join } from "node:path";
import { type BerthServer, type Instance, startBerth } from "../support/berth.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { ConnectionLost, CrashClient } from "./client.ts";
import { deadSessionsGone } from "./dead-sessions.ts";
import { type Key, Ledger, type Resolution } from "./ledger.ts";
import { runLoad } from "./load.ts";
import { Random } from "./random.ts";
import { StoreCheck, type StoreCount } from "./store-check.ts";

export interface CrashOptions {
  readonly kills: number;
  readonly seed: number;
  readonly database: "sqlite" | "postgres";
  /** Called after each kill, for a line of progress. */
  readonly onKill?: (kill: number, report: CrashReport) => void;
}

export interface CrashReport {
  readonly kills: number;
  /** Acknowledged operations by name. */
  readonly acknowledged: Record<string, number>;
  readonly acknowledgedTotal: number;
  /** Operations that a kill interrupted, by what became of them. */
  readonly interrupted: Record<Resolution, number>;
  readonly readBack: number;
  readonly keys: number;
  /** What was lost, half written or came back wrong, as sentences. Empty when every promise was kept. */
  readonly wrong: readonly string[];
  readonly store: StoreCount | undefined;
}

const CLIENTS = 4;
const SHARED_CONTENTS = 20;
/** The load runs for this long before a kill, in ms. */
const LOAD_MS = { min: 15, max: 1000 };
/** Keys read back after a kill beside those that changed since the one before. */
const SAMPLE_KEYS = 10;
/** The first failures say what is wrong; thousands more do not. */
const WRONG_MAX = 20;

/** Runs the whole test. Throws only when the server does not start or answers what no kill explains. */
export async function runCrashes(options: CrashOptions): Promise<CrashReport> {
  const random = new Random(options.seed);
  const dir = makeTempDir("crash");
  const uri = options.database === "postgres" ? await createTestDatabase() : `sqlite:///${join(dir.path, "berth.db")}`;
  const database = options.database === "postgres" ? uri : "sqlite";
  const berth = await startBerth({ dataDir: dir.path, database });
  try {
    const check = new StoreCheck({ store: berth.store, dataDir: dir.path, databaseUri: uri });
    const run = new CrashRun(berth, random, check, uri);
    for (let kill = 1; kill <= options.kills && run.wrong.length < WRONG_MAX; kill++) {
      const victim = berth.instances.length > 1 ? berth.instances[kill % berth.instances.length] : undefined;
      if (victim) await run.killOneOfMany(victim);
      else await run.killOnce();
      options.onKill?.(kill, run.report(kill));
    }
    await run.readBackEverything();
    return run.report(options.kills);
  } finally {
    await berth.stop();
    dir.remove();
  }
}

/** One of the clients, with the only repository it writes to. */
interface Member {
  readonly ledger: Ledger;
  readonly client: CrashClient;
  readonly random: Random;
}

class CrashRun {
  readonly wrong: string[] = [];
  readonly #berth: BerthServer;
  readonly #random: Random;
  readonly #store: StoreCheck;
  readonly #databaseUri: string;
  readonly #clients: Member[];
  readonly #shared: { seed: number; sizeBytes: number }[];
  readonly #interrupted: Record<Resolution, number> = { applied: 0, "not applied": 0, "nothing to see": 0 };
  #readBack = 0;
  #count: StoreCount | undefined;

  constructor(berth: BerthServer, random: Random, store: StoreCheck, databaseUri: string) {
    this.#berth = berth;
    this.#random = random;
    this.#store = store;
    this.#databaseUri = databaseUri;
    this.#clients = Array.from({ length: CLIENTS }, (_, index) => {
      const ledger = new Ledger(`admin/crash-${index}`);
      const client = new CrashClient(berth.url, berth.adminPassword, ledger.repository);
      return { ledger, client, random: new Random(random.between(1, 2 ** 31)) };
    });
    this.#shared = Array.from({ length: SHARED_CONTENTS }, () => ({
      seed: random.between(1, 2 ** 31),
      sizeBytes: random.between(1, 60_000),
    }));
  }

  /** Load, kill, restart, and a look at what changed. */
  async killOnce(): Promise<void> {
    let killed = false;
    const loads = this.#clients.map(async (member) => {
      try {
        await this.#load(member);
      } catch (error) {
        if (killed && error instanceof ConnectionLost) return;
        this.#noteLoadEnd(member, error);
      }
    });
    await Bun.sleep(this.#random.between(LOAD_MS.min, LOAD_MS.max));
    killed = true;
    await this.#berth.kill();
    await Promise.all(loads);
    await this.#berth.restart();
    await Promise.all(this.#clients.map((each) => this.#settle(each)));
    await this.#checkStore(false);
  }

  /**
   * The same of one instance while the others serve: who was cut off looks what became of the request and goes on at once.
   * The load lasts until the instance is back and has its share again.
   */
  async killOneOfMany(victim: Instance): Promise<void> {
    const killed = Promise.withResolvers<void>();
    let state: "before" | "killed" | "over" = "before";
    const isOver = () => state === "over";
    const loads = this.#clients.map(async (member) => {
      while (!isOver()) {
        try {
          await this.#load(member, isOver);
        } catch (error) {
          if (state === "before" || !(error instanceof ConnectionLost)) return this.#noteLoadEnd(member, error);
          await killed.promise;
          await this.#settleInterrupted(member);
        }
      }
    });
    const loadFor = () => Bun.sleep(this.#random.between(LOAD_MS.min, LOAD_MS.max));
    await loadFor();
    state = "killed";
    await victim.kill();
    await deadSessionsGone(this.#databaseUri);
    killed.resolve();
    await loadFor();
    await victim.restart();
    await loadFor();
    state = "over";
    await Promise.all(loads);
    await Promise.all(this.#clients.map((each) => this.#settle(each)));
    await this.#checkStore(false);
  }

  async #load({ ledger, client, random }: Member, isOver?: () => boolean): Promise<void> {
    const others = this.#clients.map((each) => each.ledger).filter((other) => other !== ledger);
    await runLoad({ ledger, client, random, others, shared: this.#shared, ...(isOver ? { isOver } : {}) });
  }

  #noteLoadEnd({ ledger }: Member, error: unknown): void {
    this.#note(`the load in ${ledger.repository} ended by itself: ${describe(error)}`);
  }

  async readBackEverything(): Promise<void> {
    for (const { ledger, client } of this.#clients) {
      for (const key of ledger.keys()) await this.#readBackKey(ledger, client, key);
      const { body } = await client.send(`/v2/${ledger.repository}/tags/list`);
      const listed = (JSON.parse(new TextDecoder().decode(body)) as { tags?: string[] }).tags ?? [];
      const expected = ledger.present("tag");
      if (listed.toSorted().join() !== expected.toSorted().join()) {
        this.#note(`the tags of ${ledger.repository} are listed as ${listed}, they should be ${expected}`);
      }
    }
    await this.#checkStore(true);
  }

  report(kills: number): CrashReport {
    const acknowledged: Record<string, number> = {};
    for (const { ledger } of this.#clients) {
      for (const [name, times] of ledger.acknowledged) acknowledged[name] = (acknowledged[name] ?? 0) + times;
    }
    return {
      kills,
      acknowledged,
      acknowledgedTotal: Object.values(acknowledged).reduce((sum, times) => sum + times, 0),
      interrupted: { ...this.#interrupted },
      readBack: this.#readBack,
      keys: this.#clients.reduce((sum, { ledger }) => sum + ledger.keys().length, 0),
      wrong: this.wrong,
      store: this.#count,
    };
  }

  /** What the kill interrupted, then what changed before it, then a sample of the rest. */
  async #settle(member: Member): Promise<void> {
    await this.#settleInterrupted(member);
    const { ledger, client, random } = member;
    const keys = new Set(ledger.touched);
    ledger.touched.clear();
    const known = ledger.keys();
    for (let left = SAMPLE_KEYS; left > 0 && known.length > 0; left--) keys.add(random.pick(known) as Key);
    for (const key of keys) await this.#readBackKey(ledger, client, key);
  }

  async #settleInterrupted({ ledger, client }: Member): Promise<void> {
    const { underWay } = ledger;
    if (!underWay) return;
    try {
      const observed = new Map<Key, string>();
      for (const key of underWay.changes.keys()) observed.set(key, await client.observe(ledger, key));
      this.#interrupted[ledger.resolve(observed)]++;
    } catch (error) {
      this.#note(`what was interrupted: ${describe(error)}`);
      if (ledger.underWay) ledger.refuse();
    }
  }

  async #readBackKey(ledger: Ledger, client: CrashClient, key: Key): Promise<void> {
    this.#readBack++;
    try {
      const observed = await client.observe(ledger, key);
      if (observed === ledger.state(key)) return;
      this.#note(`${key} of ${ledger.repository} is "${observed}", acknowledged was "${ledger.state(key)}"`);
    } catch (error) {
      this.#note(describe(error));
    }
  }

  async #checkStore(hashAll: boolean): Promise<void> {
    const { wrong, count } = await this.#store.run({ hashAll });
    this.#count = count;
    for (const sentence of wrong) this.#note(sentence);
  }

  #note(sentence: string): void {
    if (this.wrong.length < WRONG_MAX && !this.wrong.includes(sentence)) this.wrong.push(sentence);
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message} (${describe(error.cause)})`;
}
