/** The other side of `processes.ts`: what a child of `berth serve --processes N` hears and says. */

import type { Figures, FromChild, Seat, ToChild } from "./process-messages.ts";
import { SEAT_VARIABLE } from "./process-messages.ts";

export interface SiblingHandlers {
  /** Its own figures. */
  figures(): Promise<Figures>;
  /** Another process committed something. */
  onChanged(): void;
}

/** Why a process ends, and whether the whole server does. */
export interface Ending {
  readonly reason: string;
  readonly isWhole: boolean;
}

export class Sibling {
  readonly seat: Seat;
  /** Resolves when the parent wants this process to leave, or is gone. */
  readonly ending: Promise<Ending>;
  readonly #waiting = new Map<number, (figures: readonly Figures[]) => void>();
  #handlers: SiblingHandlers | undefined;
  #lastId = 0;
  #willTell = false;

  /** Undefined in a process that was started by an operator. */
  static of(env: Readonly<Record<string, string | undefined>>): Sibling | undefined {
    const text = env[SEAT_VARIABLE];
    if (text === undefined || !process.send) return undefined;
    return new Sibling(JSON.parse(text) as Seat);
  }

  private constructor(seat: Seat) {
    this.seat = seat;
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.ending = promise;
    process.on("message", (message: ToChild) => {
      if (message.kind === "retire") resolve({ reason: "replaced", isWhole: false });
      else this.#hear(message);
    });
    // Nobody would ever end it.
    process.on("disconnect", () => resolve({ reason: "the parent is gone", isWhole: true }));
  }

  handle(handlers: SiblingHandlers): void {
    this.#handlers = handlers;
  }

  send(message: FromChild): void {
    if (process.connected) process.send?.(message);
  }

  /** Tells the others that something changed; many changes at once are told of once. */
  tellChanged(): void {
    if (this.#willTell) return;
    this.#willTell = true;
    queueMicrotask(() => {
      this.#willTell = false;
      this.send({ kind: "changed" });
    });
  }

  /** The figures of all other processes. */
  async gather(): Promise<readonly Figures[]> {
    const id = ++this.#lastId;
    const answer = new Promise<readonly Figures[]>((resolve) => this.#waiting.set(id, resolve));
    this.send({ kind: "gather", id });
    return answer;
  }

  /** Ends the channel, which would keep this process alive. */
  close(): void {
    if (process.connected) process.disconnect?.();
  }

  #hear(message: Exclude<ToChild, { kind: "retire" }>): void {
    if (message.kind === "changed") this.#handlers?.onChanged();
    else if (message.kind === "figures") {
      this.#waiting.get(message.id)?.(message.figures);
      this.#waiting.delete(message.id);
    } else if (message.kind === "gather") {
      const { id } = message;
      void this.#handlers?.figures().then((figures) => this.send({ kind: "figures", id, figures }));
    }
  }
}
