/**
 * A fault run: several clients push, pull, move, mount and delete on a real server while faults are put on what it depends
 * on, one after the other. After each the server must come back by itself, and what it acknowledged must be there; what a
 * fault interrupted must have happened as a whole or not at all.
 */
import { ConnectionLost } from "../crash/client.ts";
import { type Key, Ledger, type Resolution } from "../crash/ledger.ts";
import { runLoad } from "../crash/load.ts";
import { Random } from "../crash/random.ts";
import { FaultClient, Tally } from "./client.ts";

/** Something that goes wrong for a while. */
export interface Fault {
  readonly name: string;
  /** Resolves when it is over. */
  strike(random: Random): Promise<void>;
}

/** What is put under load: one server, or several behind a balancer. */
export interface RunSite {
  readonly url: string;
  readonly adminPassword: string;
  readonly instances: readonly { readonly url: string }[];
}

export interface FaultRunOptions {
  readonly site: RunSite;
  readonly faults: readonly Fault[];
  readonly seed: number;
  /** Ends after the fault that is on when this is over; every kind of fault strikes once at least. */
  readonly seconds: number;
  /** Bodies of answers may be cut by these faults. */
  readonly mayBreak: boolean;
  /** Longest that a request may take, in ms; default `ANSWER_WITHIN_MS`. */
  readonly answerWithinMs?: number;
  /** Now and then two faults of different kinds strike together; the kind is what a name has before its colon. */
  readonly together?: boolean;
  /** Blobs beyond one part of the store are pushed as well. */
  readonly large?: boolean;
  readonly onFault?: (name: string, report: FaultReport) => void;
}

export interface FaultReport {
  /** How often each fault struck. */
  readonly faults: Record<string, number>;
  readonly faultsTotal: number;
  readonly requests: number;
  readonly unavailable: number;
  readonly busy: number;
  readonly storeRefused: number;
  readonly broken: number;
  readonly acknowledged: number;
  /** Operations whose answer was not "done", by what became of them. */
  readonly interrupted: Record<Resolution, number>;
  readonly readBack: number;
  /** Acknowledged and not there. */
  readonly lost: number;
  readonly slowestMs: number;
  /** The slowest request under each fault. */
  readonly slowest: Record<string, string>;
  /** The longest from a fault's end until all was well, and which fault that was. */
  readonly slowestRecovery: string;
  /** Everything that must not be, as sentences. */
  readonly wrong: readonly string[];
}

const CLIENTS = 4;
const SHARED_CONTENTS = 12;
/** The load between two faults, in ms. */
const CALM_MS = { min: 300, max: 1500 };
/** The server is well again this long after a fault at the latest. */
const RECOVERY_MS = 60_000;
const SAMPLE_KEYS = 10;
/** Larger than the smallest part of S3, and than two of them. */
const LARGE = { share: 0.03, min: 4_000_000, max: 18_000_000 } as const;
/** How often a fault does not come alone. */
const TOGETHER = 0.25;

export async function runFaults(options: FaultRunOptions): Promise<FaultReport> {
  const run = new FaultRun(options);
  await run.whole();
  return run.report();
}

interface Member {
  readonly ledger: Ledger;
  readonly client: FaultClient;
  readonly random: Random;
}

class FaultRun {
  readonly #options: FaultRunOptions;
  readonly #tally = new Tally();
  readonly #random: Random;
  readonly #members: Member[];
  readonly #struck: Record<string, number> = {};
  readonly #interrupted: Record<Resolution, number> = { applied: 0, "not applied": 0, "nothing to see": 0 };
  readonly #slowest: Record<string, { tookMs: number; what: string }> = {};
  #readBack = 0;
  #lost = 0;
  #slowestRecovery = { tookMs: 0, fault: "" };

  constructor(options: FaultRunOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    const { url, adminPassword: password } = options.site;
    this.#members = Array.from({ length: CLIENTS }, (_, index) => {
      const repository = `admin/faults-${index}`;
      const { mayBreak, answerWithinMs } = options;
      const client = new FaultClient({ url, password, repository, tally: this.#tally, mayBreak, answerWithinMs });
      return { ledger: new Ledger(repository), client, random: new Random(this.#random.between(1, 2 ** 31)) };
    });
  }

  async whole(): Promise<void> {
    const { faults, seconds, onFault } = this.#options;
    const random = this.#random;
    const shared = Array.from({ length: SHARED_CONTENTS }, () => ({
      seed: random.between(1, 2 ** 31),
      sizeBytes: random.between(1, 60_000),
    }));
    const working = this.#members.map((member) => this.#work(member, shared));
    const endMs = performance.now() + seconds * 1000;
    const order = [...faults].sort(() => random.next() - 0.5);
    for (let next = 0; next < order.length || performance.now() < endMs; next++) {
      await Bun.sleep(random.between(CALM_MS.min, CALM_MS.max));
      const fault = order[next] ?? random.pick(faults);
      if (fault === undefined || this.#tally.wrong.length > 10) break;
      const struck = [fault, ...this.#another(fault)];
      for (const { name } of struck) this.#struck[name] = (this.#struck[name] ?? 0) + 1;
      // Each has its own course, so that one seed means one run.
      const courses = struck.map((each) => each.strike(new Random(random.between(1, 2 ** 31))));
      await Promise.all(courses);
      const name = struck.map((each) => each.name).join(" + ");
      await this.#recovered(name);
      const { slowestMs: tookMs, slowestRequest: what } = this.#tally;
      if (tookMs > (this.#slowest[name]?.tookMs ?? 0)) this.#slowest[name] = { tookMs, what };
      this.#tally.slowestMs = 0;
      onFault?.(name, this.report());
    }
    for (const { client } of this.#members) client.isStopped = true;
    await Promise.all(working);
    for (const { client } of this.#members) client.isStopped = false;
    await Promise.all(this.#members.map((member) => this.#readBackEverything(member)));
  }

  report(): FaultReport {
    const { requests, unavailable, busy, storeRefused, broken, slowestMs, wrong } = this.#tally;
    const acknowledged = this.#members.flatMap(({ ledger }) => [...ledger.acknowledged.values()]);
    return {
      faults: { ...this.#struck },
      faultsTotal: Object.values(this.#struck).reduce((sum, times) => sum + times, 0),
      requests,
      unavailable,
      busy,
      storeRefused,
      broken,
      acknowledged: acknowledged.reduce((sum, times) => sum + times, 0),
      interrupted: { ...this.#interrupted },
      readBack: this.#readBack,
      lost: this.#lost,
      slowestMs: Math.round(Math.max(slowestMs, ...Object.values(this.#slowest).map(({ tookMs }) => tookMs))),
      slowest: Object.fromEntries(
        Object.entries(this.#slowest).map(([name, { tookMs, what }]) => [name, `${Math.round(tookMs)} ms: ${what}`]),
      ),
      slowestRecovery: `${Math.round(this.#slowestRecovery.tookMs)} ms: ${this.#slowestRecovery.fault}`,
      wrong: [...wrong],
    };
  }

  /** At times a fault of another kind, to strike at the same moment. */
  #another(fault: Fault): Fault[] {
    const { faults, together } = this.#options;
    if (!together || !this.#random.chance(TOGETHER)) return [];
    const kind = kindOf(fault);
    const other = this.#random.pick(faults.filter((each) => kindOf(each) !== kind));
    return other ? [other] : [];
  }

  /** One client's work until it is stopped. What a fault interrupts is looked at as soon as it can be, and counted. */
  async #work({ ledger, client, random }: Member, shared: { seed: number; sizeBytes: number }[]): Promise<void> {
    const large = this.#options.large ? LARGE : undefined;
    const others = this.#members.map((member) => member.ledger).filter((other) => other !== ledger);
    while (!client.isStopped) {
      try {
        await this.#settle({ ledger, client, random });
        await runLoad({ ledger, client, random, others, shared, mayForgetUploads: true, large });
      } catch (error) {
        if (!(error instanceof ConnectionLost)) {
          this.#tally.note(`in ${ledger.repository}: ${describe(error)}`);
          if (ledger.underWay) ledger.refuse();
        }
        // As a client that heeds Retry-After, only less patient.
        if (!client.isStopped) await Bun.sleep(random.between(50, 250));
      }
    }
  }

  /** What was interrupted: done as a whole, or not at all. Throws `ConnectionLost` when it cannot be seen yet. */
  async #settle({ ledger, client, random }: Member): Promise<void> {
    const { underWay } = ledger;
    if (underWay) {
      const observed = new Map<Key, string>();
      for (const key of underWay.changes.keys()) observed.set(key, await client.observe(ledger, key));
      this.#interrupted[ledger.resolve(observed)]++;
    }
    const known = ledger.keys();
    const keys = new Set<Key>();
    for (let left = SAMPLE_KEYS; left > 0 && known.length > 0; left--) keys.add(random.pick(known) as Key);
    for (const key of keys) await this.#readBackKey({ ledger, client, random }, key);
  }

  async #readBackEverything(member: Member): Promise<void> {
    const { ledger, client } = member;
    try {
      await this.#settle(member);
      for (const key of ledger.keys()) await this.#readBackKey(member, key);
      const { body } = await client.send(`/v2/${ledger.repository}/tags/list`);
      const listed = (JSON.parse(new TextDecoder().decode(body)) as { tags?: string[] }).tags ?? [];
      if (listed.toSorted().join() !== ledger.present("tag").toSorted().join()) {
        this.#tally.note(`the tags of ${ledger.repository} are listed as ${listed}, not ${ledger.present("tag")}`);
      }
    } catch (error) {
      this.#tally.note(`at the end, without any fault: ${describe(error)}`);
    }
  }

  async #readBackKey({ ledger, client }: Member, key: Key): Promise<void> {
    this.#readBack++;
    const observed = await client.observe(ledger, key);
    if (observed === ledger.state(key) || ledger.cameTrueLate(key, observed)) return;
    this.#lost++;
    this.#tally.note(`${key} of ${ledger.repository} is "${observed}", acknowledged was "${ledger.state(key)}"`);
  }

  /** Waits until every instance says that it is well, which it must by itself. */
  async #recovered(fault: string): Promise<void> {
    const startedMs = performance.now();
    const well = await Promise.all(this.#options.site.instances.map(({ url }) => this.#isWell(url, fault)));
    if (!well.every(Boolean)) return;
    const tookMs = performance.now() - startedMs;
    if (tookMs <= this.#slowestRecovery.tookMs) return;
    this.#slowestRecovery = { tookMs, fault };
  }

  async #isWell(url: string, fault: string): Promise<boolean> {
    const startedMs = performance.now();
    let last = "";
    while (performance.now() - startedMs < RECOVERY_MS) {
      try {
        const response = await fetch(`${url}/health/endtoend`, { signal: AbortSignal.timeout(10_000) });
        last = `${response.status} ${await response.text()}`;
        if (response.status === 200) return true;
      } catch (error) {
        last = describe(error);
      }
      await Bun.sleep(50);
    }
    this.#tally.note(`not well within ${RECOVERY_MS} ms after "${fault}": ${last}`);
    return false;
  }
}

function kindOf({ name }: Fault): string {
  return name.split(":")[0] ?? "";
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message} (${describe(error.cause)})`;
}
