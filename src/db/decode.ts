/**
 * Helpers for the functions that decode rows: what SQLite and PostgreSQL spell differently becomes one JavaScript value.
 */

/** A boolean column: `0` and `1` from SQLite, `true` and `false` from PostgreSQL. Throws TypeError on anything else. */
export function toBoolean(value: unknown): boolean {
  if (value === true || value === 1) return true;
  if (value === false || value === 0) return false;
  throw new TypeError(`The database gave "${String(value)}" where a boolean was expected (true, false, 0 or 1).`);
}

/** A number column, count or sum, also as decimal text or bigint. Throws TypeError on what a number cannot hold exactly. */
export function toNumber(value: unknown): number {
  const number =
    typeof value === "bigint" || (typeof value === "string" && value.trim() !== "") ? Number(value) : value;
  const exact = typeof number === "number" && Number.isFinite(number) && Math.abs(number) <= Number.MAX_SAFE_INTEGER;
  if (exact) return number;
  throw new TypeError(`The database gave "${String(value)}" where a number up to 2^53 - 1 was expected.`);
}
