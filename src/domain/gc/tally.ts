/** What a round of collection did, for metrics and the log. */
export class Tally {
  readonly rowsByTable = new Map<string, number>();
  blobs = 0;
  bytes = 0;
  repositories = 0;
  namespaces = 0;
  /** Steps and jobs that failed, and are tried again. */
  failures = 0;

  rows(table: string, count: number): void {
    if (count > 0) this.rowsByTable.set(table, (this.rowsByTable.get(table) ?? 0) + count);
  }

  get isEmpty(): boolean {
    return this.rowsByTable.size === 0 && this.blobs === 0 && this.repositories === 0 && this.namespaces === 0;
  }
}
