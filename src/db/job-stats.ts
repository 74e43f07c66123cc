/** What was done to jobs through one database since somebody last asked, for Quay's counters of queues. */

/** Quay's words for the outcomes of a look for a job: there was none, another worker was faster, it is ours. */
export type Availability = "nonexistant" | "claimed" | "acquired";

export interface JobFigures {
  readonly puts: readonly (readonly [queue: string, count: number])[];
  readonly gets: readonly (readonly [queue: string, availability: Availability, count: number])[];
  /** Jobs that left their queue. */
  readonly deletes: number;
}

export class JobStats {
  readonly #puts = new Map<string, number>();
  readonly #gets = new Map<string, Map<Availability, number>>();
  #deletes = 0;

  put(queue: string): void {
    this.#puts.set(queue, (this.#puts.get(queue) ?? 0) + 1);
  }

  get(queue: string, availability: Availability): void {
    const gets = this.#gets.get(queue) ?? new Map<Availability, number>();
    gets.set(availability, (gets.get(availability) ?? 0) + 1);
    this.#gets.set(queue, gets);
  }

  delete(count: number): void {
    this.#deletes += count;
  }

  /** Gives what was counted and begins anew; undefined when that is nothing. */
  take(): JobFigures | undefined {
    const puts = [...this.#puts];
    const gets = [...this.#gets].flatMap(([queue, counts]) =>
      [...counts].map(([availability, count]) => [queue, availability, count] as const),
    );
    const deletes = this.#deletes;
    this.#puts.clear();
    this.#gets.clear();
    this.#deletes = 0;
    return puts.length + gets.length + deletes > 0 ? { puts, gets, deletes } : undefined;
  }
}
