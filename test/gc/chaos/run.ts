/**
 * The chaos run: clients push what shares layers with what is being collected, while servers and workers are killed and
 * started again. After each kill, and at the end, what was acknowledged is pulled whole; when all is settled the store must
 * hold exactly that.
 */
import { Random } from "../../crash/random.ts";
import { ChaosClient } from "./client.ts";
import { ChaosHttp, Lost, Refused } from "./http.ts";
import { Leases } from "./leases.ts";
import { LayerPool } from "./pool.ts";
import { type Settled, settle } from "./settle.ts";
import { ChaosSite, type SiteOptions } from "./site.ts";

export interface ChaosOptions extends SiteOptions {
  readonly seconds: number;
  readonly seed: number;
  /** Ends leases of blobs early: for short runs. */
  readonly ageing: boolean;
  readonly onKill?: (report: ChaosReport) => void;
}

export interface ChaosReport {
  readonly kills: { readonly servers: number; readonly workers: number };
  /** Acknowledged by name. */
  readonly acknowledged: Readonly<Record<string, number>>;
  readonly lost: number;
  readonly refused: number;
  readonly pulledBlobs: number;
  /** Blobs that were ever seen in the database, which grows by each that came after it had been collected. */
  readonly blobsEver: number;
  readonly settled: Omit<Settled, "wrong"> | undefined;
  /** Everything that must not be, as sentences. */
  readonly wrong: readonly string[];
}

const CLIENTS = 4;
/** Between two blows, in ms. */
const CALM_MS = { min: 200, max: 4000 } as const;
/** A little longer than a blob is safe from collection after its last push, and than ageing leaves it. */
const CYCLE_MS = { leases: 66_000, ageing: 6_000 } as const;
const AGEING_EVERY_MS = 300;
const WRONG_MAX = 10;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const site = await ChaosSite.start(options);
  try {
    const run = new ChaosRun(site, options);
    await run.whole();
    if (run.wrong.length > 0) console.log(site.complaints().slice(-40).join("\n"));
    return await run.report();
  } finally {
    await site.stop();
  }
}

class ChaosRun {
  readonly wrong: string[] = [];
  readonly #site: ChaosSite;
  readonly #options: ChaosOptions;
  readonly #random: Random;
  readonly #clients: readonly ChaosClient[];
  readonly #leases: Leases;
  #lost = 0;
  #refused = 0;
  #checks = 0;
  #isOver = false;
  #settled: Settled | undefined;

  constructor(site: ChaosSite, options: ChaosOptions) {
    this.#site = site;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#leases = new Leases(() => site.steady());
    const pool = new LayerPool(this.#random, options.ageing ? CYCLE_MS.ageing : CYCLE_MS.leases);
    const http = new ChaosHttp({ url: () => site.url, password: site.adminPassword, leases: this.#leases });
    this.#clients = Array.from({ length: CLIENTS }, (_, index) => {
      const random = new Random(this.#random.between(1, 2 ** 31));
      const others = () => this.#clients.filter((_, other) => other !== index).flatMap((each) => each.repositories);
      return new ChaosClient({ name: `chaos-${index}`, random, pool, http, api: () => site.api, others });
    });
  }

  async whole(): Promise<void> {
    await this.#site.signIn();
    const working = this.#clients.map((client) => this.#work(client));
    const ageing = this.#options.ageing
      ? setInterval(() => void this.#leases.age(this.#site.app.db), AGEING_EVERY_MS)
      : 0;
    const endMs = performance.now() + this.#options.seconds * 1000;
    try {
      while (performance.now() < endMs && this.wrong.length < WRONG_MAX) {
        await Bun.sleep(this.#random.between(CALM_MS.min, CALM_MS.max));
        await this.#site.strike(this.#random);
        this.#checks++;
        this.#options.onKill?.(await this.report());
      }
    } finally {
      this.#isOver = true;
      clearInterval(ageing);
      await Promise.all(working);
    }
    await Promise.all(this.#clients.map((client) => this.#attempt(() => client.verify())));
    const models = this.#clients.flatMap(({ repositories }) => repositories);
    await this.#attempt(async () => {
      this.#settled = await settle(this.#site, models, this.#options.ageing);
      for (const sentence of this.#settled.wrong) this.#note(sentence);
    });
    await Promise.all(this.#clients.map((client) => this.#attempt(() => client.verify())));
  }

  async report(): Promise<ChaosReport> {
    const acknowledged: Record<string, number> = {};
    for (const client of this.#clients) {
      for (const [name, times] of client.acknowledged) acknowledged[name] = (acknowledged[name] ?? 0) + times;
    }
    const [row] = await this.#site.app.db.sql<{ id: number }>`/* chaos.ever */ select max(id) as id from blob`;
    const { wrong: _, ...settled } = this.#settled ?? { blobs: 0, bytes: 0, tookMs: 0, wrong: [] };
    return {
      kills: { ...this.#site.kills },
      acknowledged,
      lost: this.#lost,
      refused: this.#refused,
      pulledBlobs: this.#clients.reduce((sum, { pulledBlobs }) => sum + pulledBlobs, 0),
      blobsEver: Number(row?.id ?? 0),
      settled: this.#settled ? settled : undefined,
      wrong: [...this.wrong],
    };
  }

  /** One client's work: after each blow it first looks whether all it was promised is there. */
  async #work(client: ChaosClient): Promise<void> {
    let checked = 0;
    while (!this.#isOver && this.wrong.length < WRONG_MAX) {
      try {
        const { kills } = this.#site;
        const before = kills.servers;
        if (checked < this.#checks) {
          const check = this.#checks;
          await client.verify();
          checked = check;
        }
        await client.step();
        if (before !== kills.servers) await this.#site.steady();
      } catch (error) {
        if (error instanceof Lost) {
          this.#lost++;
          await this.#site.steady();
        } else if (error instanceof Refused) this.#refused++;
        else this.#note(describe(error));
        await Bun.sleep(client.pauseMs());
      }
    }
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#note(describe(error));
    }
  }

  #note(sentence: string): void {
    if (!this.wrong.includes(sentence)) this.wrong.push(sentence);
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message} (${describe(error.cause)})`;
}
