/**
 * What one repository must hold: every change that the server acknowledged, and both possible outcomes of the one request
 * that was under way when it was killed. A repository has one client, so nothing else is open.
 */
import type { Content } from "./random.ts";

/** `blob:<digest>`, `manifest:<digest>` or `tag:<name>`. */
export type Key = `${"blob" | "manifest" | "tag"}:${string}`;
/** Of a blob or manifest "present"; of a tag the digest it points at; "absent" for all three. */
export type State = string;
export const ABSENT = "absent";
export const PRESENT = "present";

/** A request whose effects come all together or not at all. */
export interface Operation {
  readonly name: string;
  readonly changes: ReadonlyMap<Key, State>;
}

export interface KnownManifest {
  readonly content: Uint8Array;
  readonly blobs: readonly string[];
}

/** An upload session that was not ended. */
export interface OpenUpload {
  location: string;
  readonly content: Content;
  readonly digest: string;
  acknowledgedBytes: number;
  /** Where the session stands if the PATCH that was under way did arrive. */
  inFlightBytes: number;
}

export type Resolution = "applied" | "not applied" | "nothing to see";

export class Ledger {
  readonly repository: string;
  readonly blobs = new Map<string, Content>();
  readonly manifests = new Map<string, KnownManifest>();
  readonly uploads = new Set<OpenUpload>();
  /** Acknowledged operations by name. */
  readonly acknowledged = new Map<string, number>();
  /** Keys that an acknowledged operation touched since the last restart. */
  readonly touched = new Set<Key>();
  readonly #states = new Map<Key, State>();
  /** What operations would have made of keys that were neither acknowledged nor seen. */
  readonly #inDoubt = new Map<Key, State>();
  #underWay: Operation | undefined;

  constructor(repository: string) {
    this.repository = repository;
  }

  state(key: Key): State {
    return this.#states.get(key) ?? ABSENT;
  }

  /** Every key that was ever touched, whatever its state now. */
  keys(): Key[] {
    return [...this.#states.keys()];
  }

  /** Names or digests of this kind that are there. */
  present(kind: "blob" | "manifest" | "tag"): string[] {
    const prefix = `${kind}:`;
    const found = [...this.#states].filter(([key, state]) => key.startsWith(prefix) && state !== ABSENT);
    return found.map(([key]) => key.slice(prefix.length));
  }

  /** Blobs that a manifest which is there names: they cannot be deleted. */
  namedBlobs(): Set<string> {
    return new Set(this.present("manifest").flatMap((digest) => this.manifests.get(digest)?.blobs ?? []));
  }

  begin(operation: Operation): void {
    if (this.#underWay) throw new Error(`"${this.#underWay.name}" is still under way in ${this.repository}`);
    this.#underWay = operation;
  }

  /** The server said that it is done. */
  acknowledge(): void {
    const operation = this.#take();
    this.acknowledged.set(operation.name, (this.acknowledged.get(operation.name) ?? 0) + 1);
    for (const [key, state] of operation.changes) {
      this.#states.set(key, state);
      this.#inDoubt.delete(key);
      this.touched.add(key);
    }
  }

  /**
   * True when a change that nobody acknowledged, and that was not to be seen at first, has come true since: a commit that was
   * cut off on its way may reach the database when the line is back. It counts from now on.
   */
  cameTrueLate(key: Key, observed: State): boolean {
    if (this.#inDoubt.get(key) !== observed) return false;
    this.#inDoubt.delete(key);
    this.#states.set(key, observed);
    return true;
  }

  /** The server said that it did nothing. */
  refuse(): void {
    this.#take();
  }

  get underWay(): Operation | undefined {
    return this.#underWay;
  }

  /**
   * Settles the operation that the kill interrupted by what is there now. Throws when it is neither the state before nor
   * the one after, or a part of each.
   */
  resolve(observed: ReadonlyMap<Key, State>): Resolution {
    const { name, changes } = this.#take();
    const visible = [...changes].filter(([key, after]) => this.state(key) !== after);
    const show = (key: Key) => `${key} is "${observed.get(key)}", was "${this.state(key)}"`;
    const applied = visible.filter(([key, after]) => observed.get(key) === after);
    const kept = visible.filter(([key]) => observed.get(key) === this.state(key));
    if (applied.length !== visible.length && kept.length !== visible.length) {
      const seen = visible.map(([key, after]) => `${show(key)}, would be "${after}"`);
      throw new Error(`"${name}" in ${this.repository} is done in part: ${seen.join("; ")}`);
    }
    for (const [key] of changes) this.#states.set(key, observed.get(key) ?? ABSENT);
    if (visible.length === 0) return "nothing to see";
    if (applied.length === 0) for (const [key, after] of visible) this.#inDoubt.set(key, after);
    return applied.length > 0 ? "applied" : "not applied";
  }

  #take(): Operation {
    const operation = this.#underWay;
    if (!operation) throw new Error(`nothing is under way in ${this.repository}`);
    this.#underWay = undefined;
    return operation;
  }
}
