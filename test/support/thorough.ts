/**
 * Where a suite has every case of one thing for every case of another, the usual run takes the second ones by turns, and
 * `TEST_THOROUGH=1` takes them all: before a release, and after a change of what they try.
 */
export const isThorough = process.env.TEST_THOROUGH === "1";

/** Of cases that take long: usually every second one, from the first or the second on as `turn` is even or odd. */
export function everySecond<T>(cases: readonly T[], turn: number): readonly T[] {
  return isThorough ? cases : cases.filter((_, index) => index % 2 === turn % 2);
}

/**
 * What a test that goes through positions 0, 1, 2 … does at each: a list of one for each run, by name. Usually one run whose
 * cases take turns, so that each position has one of them; thorough, a run for each case.
 */
export function byTurns<T extends string>(cases: readonly T[]): [string, (position: number) => T][] {
  if (isThorough) return cases.map((each) => [each, () => each]);
  return [[`${cases.join(", ")} by turns`, (position) => cases[position % cases.length] as T]];
}
