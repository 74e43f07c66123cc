/**
 * Durations and sizes as Quay writes them in config.yaml, turned into milliseconds and bytes. The config keeps the text
 * (`2w`, `20G`), because the API shows it again; whoever needs the number asks here.
 */

/** Quay's own pattern for durations; its validation quotes it to the operator. */
export const DURATION_PATTERN = /^[0-9]+(w|m|d|h|s)$/;

const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** Milliseconds of a duration such as `30m` or `2w`; `0s` is 0. Throws RangeError on anything else or past 2^53 ms. */
export function durationMs(text: string): number {
  const unitMs = UNIT_MS[text.slice(-1)];
  const ms = DURATION_PATTERN.test(text) && unitMs !== undefined ? Number(text.slice(0, -1)) * unitMs : Number.NaN;
  if (!Number.isSafeInteger(ms)) {
    throw new RangeError(`cannot read "${text}" as a duration; write a number and s, m, h, d or w, such as 2w`);
  }
  return ms;
}

/** Quay's schema allows `<n>G` and `<n>M`; its server reads every unit below, so they are taken too. */
export const SIZE_PATTERN = /^([0-9]+)(?:([kKMGTP])(i?)B?|B)?$/;

const UNIT_POWER: Record<string, number> = { k: 1, K: 1, M: 2, G: 3, T: 4, P: 5 };

/**
 * Bytes of a size such as `20G` or `512MiB`. `G` is 10^9 and `Gi` is 2^30, as Quay's server counts them. Throws RangeError
 * on anything else or past 2^53 bytes.
 */
export function sizeBytes(text: string): number {
  const match = SIZE_PATTERN.exec(text);
  const unit = match?.[2];
  const base = match?.[3] === "i" ? 1024 : 1000;
  const bytes = match ? Number(match[1]) * base ** (unit ? (UNIT_POWER[unit] ?? 0) : 0) : Number.NaN;
  if (!Number.isSafeInteger(bytes)) {
    throw new RangeError(`cannot read "${text}" as a size; write a number and M or G, such as 20G`);
  }
  return bytes;
}
