/**
 * What a fault proxy does to the bytes that pass it, as plain settings that a test changes while connections are open. The
 * proxy itself is in `fault-proxy.ts`, faults of HTTP answers are in `fault-http.ts`.
 */

/** `toServer` is the way from Berth to its store or database, `toClient` the way back. */
export type Direction = "toServer" | "toClient";
/** One figure for each way, so that a one-way fault can be asked for. */
export interface EachWay<T> {
  toServer: T;
  toClient: T;
}

export interface FaultSettings {
  /** Added before each piece is passed on; pieces behind each other overlap, as on a long cable. 0: none. */
  readonly latencyMs: EachWay<number>;
  /** Per connection; 0 is unbounded. */
  readonly bytesPerSecond: EachWay<number>;
  /**
   * Ways on which nothing arrives, kept back until it is taken away, as TCP does over a broken link: neither bytes nor ends of
   * connections. Both: a black hole, whose new connections are accepted and never answered. One: a one-way partition.
   */
  readonly silent: EachWay<boolean>;
  /** Each connection is reset once so many bytes passed it in both ways together, counted from when this is set. */
  resetAfterBytes: number | undefined;
  /** A connection's way is ended (FIN) after so many bytes of it, counted from when this is set; the other way goes on. */
  readonly endAfterBytes: EachWay<number | undefined>;
  /** True: the port is closed (ECONNREFUSED) for new connections. Open ones stay. Takes effect at once. */
  refuse: boolean;
  /**
   * The next so many times that a piece on the way to the server holds `text`, it is passed on and the connection is reset in
   * place of the server's answer: done, and nobody was told. Counts down.
   */
  loseAnswers: { text: string; times: number } | undefined;
}

/** The settings with what the proxy needs to hear of their change. */
export class Faults implements FaultSettings {
  readonly latencyMs: EachWay<number> = { toServer: 0, toClient: 0 };
  readonly bytesPerSecond: EachWay<number> = { toServer: 0, toClient: 0 };
  readonly silent: EachWay<boolean>;
  readonly endAfterBytes: EachWay<number | undefined>;
  loseAnswers: { text: string; times: number } | undefined;
  /** Counted up when bytes are to be counted anew. */
  countsFrom = 0;
  readonly #onRefuse: (refuse: boolean) => void;
  #refuse = false;
  #resetAfterBytes: number | undefined;
  #changed = Promise.withResolvers<void>();

  constructor(onRefuse: (refuse: boolean) => void) {
    this.#onRefuse = onRefuse;
    this.silent = this.#watched<boolean>({ toServer: false, toClient: false }, () => undefined);
    this.endAfterBytes = this.#watched<number | undefined>({ toServer: undefined, toClient: undefined }, () => {
      this.countsFrom++;
    });
  }

  get refuse(): boolean {
    return this.#refuse;
  }

  set refuse(refuse: boolean) {
    if (refuse === this.#refuse) return;
    this.#refuse = refuse;
    this.#onRefuse(refuse);
  }

  get resetAfterBytes(): number | undefined {
    return this.#resetAfterBytes;
  }

  set resetAfterBytes(bytes: number | undefined) {
    this.#resetAfterBytes = bytes;
    this.countsFrom++;
  }

  /** Resolves with the next change of what is silent. */
  changed(): Promise<void> {
    return this.#changed.promise;
  }

  /** Takes every fault away. */
  clear(): void {
    for (const way of ["toServer", "toClient"] as const) {
      this.latencyMs[way] = 0;
      this.bytesPerSecond[way] = 0;
      this.endAfterBytes[way] = undefined;
      this.silent[way] = false;
    }
    this.resetAfterBytes = undefined;
    this.loseAnswers = undefined;
    this.refuse = false;
  }

  #watched<T>(initial: EachWay<T>, effect: () => void): EachWay<T> {
    return new Proxy(initial, {
      set: (target, way, value) => {
        const done = Reflect.set(target, way, value);
        effect();
        this.#changed.resolve();
        this.#changed = Promise.withResolvers<void>();
        return done;
      },
    });
  }
}
