/** What a round of counting did, for metrics and the log. */
export class QuotaTally {
  /** Namespaces whose totals are complete now. */
  counted = 0;
  /** Namespaces that were counted afresh beside their kept totals. */
  compared = 0;
  /** Of these, the ones whose totals were wrong: expected are none. */
  drifted = 0;

  get isEmpty(): boolean {
    return this.counted === 0 && this.compared === 0;
  }
}
