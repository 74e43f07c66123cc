/**
 * How instances on one PostgreSQL hear of each other's changes: NOTIFY inside the transaction, LISTEN on a connection of its
 * own. The connection is asked for a sign of life every two seconds, since a cut cable says nothing by itself.
 */

import { randomUUID } from "node:crypto";
import type { ChangeListeners } from "./changes.ts";
import type { DatabaseLog } from "./options.ts";
import { type Client, runOn } from "./postgres-client.ts";
import { within } from "./within.ts";

const channel = "berth_changed";
/** PostgreSQL takes less than 8,000 bytes. */
const payloadMaxBytes = 7_900;
/** A transaction that changes more than fits says "everything": that costs the others less than reading it all. */
const payloadsMax = 8;
const heartbeatMs = 2_000;
const answerWithinMs = 2_000;
const reconnectMs = 500;
/**
 * A process that stood still for this long (paused, starved, stopped by a debugger) may hear of a change only after it has
 * answered a request from memory. It looks at the time so often.
 */
const stalledMs = 900;
const aliveEveryMs = 200;
/** A commit whose answer was lost may come this much later still: until then our own word of it is news. */
const doubtMs = 60_000;

/** What travels: who says it, and which keys; null for everything. */
interface Payload {
  readonly from: string;
  readonly keys: readonly string[] | null;
}

type MakeClient = (onClose: () => void, onNotify: (channel: string, payload: string) => void) => Client;

export class PostgresListener {
  /** The connection is up. */
  #listens = false;
  /** By `performance.now()`: when this process was last seen running. */
  #aliveMs = performance.now();
  /** It stood still, and what came meanwhile has not been read yet. */
  #isBehind = false;
  #pulse: Timer | undefined;
  readonly #origin = randomUUID();
  readonly #makeClient: MakeClient;
  readonly #onDeaf: () => void;
  readonly #listeners: ChangeListeners;
  readonly #log: DatabaseLog;
  #client: Client | undefined;
  #timer: Timer | undefined;
  #closed = false;
  #warned = false;
  #ownIsNewsUntilMs = 0;
  #catching: Promise<void> | undefined;
  #following: Promise<void> | undefined;
  /** By `performance.now()`: the last sure word of the server, and when it was noticed that there is none any more. */
  heardMs = 0;
  deafMs = 0;

  /** `onDeaf` is called when the connection is lost or says nothing any more. */
  constructor(makeClient: MakeClient, onDeaf: () => void, listeners: ChangeListeners, log: DatabaseLog) {
    this.#makeClient = makeClient;
    this.#onDeaf = onDeaf;
    this.#listeners = listeners;
    this.#log = log;
  }

  /** True while notifications are sure to arrive, and those of the last second to have been read. */
  get hears(): boolean {
    return this.#listens && !this.#isBehind && performance.now() - this.#aliveMs < stalledMs;
  }

  /** Starts to listen; resolves after the first try, which may have failed. From then on it keeps itself up. */
  async start(): Promise<void> {
    this.#aliveMs = performance.now();
    this.#pulse = setInterval(() => this.#live(), aliveEveryMs);
    this.#pulse.unref();
    await this.#connect();
  }

  /** Inside the open transaction, before its commit: PostgreSQL delivers at commit, and nothing after a roll-back. */
  async notify(run: (text: string, params: string[]) => Promise<unknown>, keys: readonly string[]): Promise<void> {
    for (const payload of this.#payloads(keys)) {
      await run("/* changes.notify */ select pg_notify($1, $2)", [channel, payload]);
    }
  }

  /** A commit of ours may or may not have happened: what it says of itself is heeded as if another had done it. */
  doubtOwn(): void {
    this.#ownIsNewsUntilMs = performance.now() + doubtMs;
  }

  /**
   * Resolves when everything that was committed before this call has been delivered: PostgreSQL tells a connection what it
   * listens for before it answers the connection's next query. Resolves at once while nothing is heard.
   */
  catchUp(): Promise<void> {
    if (!this.#catching) {
      this.#catching = this.#ask().finally(() => {
        this.#catching = undefined;
      });
      return this.#catching;
    }
    // A question under way may have been answered before that commit: all who come meanwhile share the next one.
    this.#following ??= this.#catching.then(() => {
      this.#following = undefined;
      return this.catchUp();
    });
    return this.#following;
  }

  /** Tries to connect now instead of at the next turn. */
  retry(): void {
    if (this.#client === undefined) this.#schedule(() => this.#connect(), 0);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#listens = false;
    clearTimeout(this.#timer);
    clearInterval(this.#pulse);
    await this.#client?.end({ timeout: 1 });
  }

  async #connect(): Promise<void> {
    let current: Client | undefined;
    // A client that was given up closes later than its successor opens; it may not speak for it.
    const client = this.#makeClient(
      () => current !== undefined && current === this.#client && this.#lost("the connection was closed"),
      (name, payload) => name === channel && current === this.#client && this.#hear(payload),
    );
    current = client;
    this.#client = client;
    try {
      await within(answerWithinMs * 5, client.unsafe(`listen ${channel}`));
      if (this.#closed || this.#client !== client) return;
      this.#listens = true;
      this.heardMs = performance.now();
      if (this.#warned) this.#log.info("Changes of other instances are heard again.");
      this.#warned = false;
      // What happened in between was missed.
      this.#listeners.deliver(undefined);
      this.#schedule(() => this.#beat(client), heartbeatMs);
    } catch (error) {
      this.#lost(error instanceof Error ? error.message : String(error));
    }
  }

  #live(): void {
    const nowMs = performance.now();
    const stoodStill = nowMs - this.#aliveMs >= stalledMs;
    this.#aliveMs = nowMs;
    if (!stoodStill || !this.#listens || this.#isBehind) return;
    this.#isBehind = true;
    void this.catchUp().finally(() => {
      this.#isBehind = false;
    });
  }

  async #beat(client: Client): Promise<void> {
    await this.#ask();
    if (this.#client === client) this.#schedule(() => this.#beat(client), heartbeatMs);
  }

  /** A sign of life; without one the connection is given up. */
  async #ask(): Promise<void> {
    const client = this.#client;
    if (!client || !this.#listens) return;
    try {
      await within(answerWithinMs, runOn(client, "/* changes.heartbeat */ select 1", []));
      this.heardMs = performance.now();
    } catch (error) {
      if (this.#client === client) this.#lost(error instanceof Error ? error.message : String(error));
    }
  }

  #lost(reason: string): void {
    const client = this.#client;
    this.#client = undefined;
    if (this.#listens) this.deafMs = performance.now();
    this.#listens = false;
    void client?.end({ timeout: 0 }).catch(() => undefined);
    if (this.#closed) return;
    if (!this.#warned)
      this.#log.warn("Changes of other instances are not heard; caches of what may change are off.", { reason });
    this.#warned = true;
    this.#schedule(() => this.#connect(), reconnectMs * (0.5 + Math.random()));
    this.#onDeaf();
  }

  #schedule(step: () => Promise<void>, delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void step(), delayMs);
    this.#timer.unref();
  }

  #hear(text: string): void {
    this.heardMs = performance.now();
    let payload: Payload;
    try {
      payload = JSON.parse(text) as Payload;
    } catch {
      // Not ours: whoever sent it, dropping everything is always right.
      payload = { from: "", keys: null };
    }
    // What this process did itself was delivered at its commit.
    const isNews = payload.from !== this.#origin || performance.now() < this.#ownIsNewsUntilMs;
    if (isNews) this.#listeners.deliver(Array.isArray(payload.keys) ? payload.keys : undefined);
  }

  #payloads(keys: readonly string[]): string[] {
    const everything = [JSON.stringify({ from: this.#origin, keys: null } satisfies Payload)];
    const payloads: string[] = [];
    let part: string[] = [];
    let sizeBytes = 0;
    const frameBytes = 80;
    for (const key of keys) {
      const keyBytes = Buffer.byteLength(JSON.stringify(key)) + 1;
      if (keyBytes + frameBytes > payloadMaxBytes) return everything;
      if (sizeBytes + keyBytes + frameBytes > payloadMaxBytes) {
        payloads.push(JSON.stringify({ from: this.#origin, keys: part } satisfies Payload));
        part = [];
        sizeBytes = 0;
      }
      part.push(key);
      sizeBytes += keyBytes;
    }
    if (part.length > 0) payloads.push(JSON.stringify({ from: this.#origin, keys: part } satisfies Payload));
    return payloads.length > payloadsMax ? everything : payloads;
  }
}
