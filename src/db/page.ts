/** A page of a list that is ordered by a text key. */
export interface KeyPage {
  /** The last key of the page before; "" for the first page. */
  readonly after: string;
  /** At most so many rows. */
  readonly limit: number;
}
