/** Random numbers that can be repeated: the seed is printed, and taken from BERTH_TEST_SEED when that is set. */

export interface Random {
  /** From `low` to `high`, both included. */
  integer(low: number, high: number): number;
  bytes(sizeBytes: number): Uint8Array;
}

/** A mulberry32 generator. `purpose` says in the printed line whose seed it is. */
export function makeRandom(purpose: string, seed = seedOfRun()): Random {
  console.log(`${purpose}: BERTH_TEST_SEED=${seed}`);
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return {
    integer: (low, high) => low + (next() % (high - low + 1)),
    bytes(sizeBytes) {
      const words = new Uint32Array(Math.ceil(sizeBytes / 4));
      for (let index = 0; index < words.length; index++) words[index] = next();
      return new Uint8Array(words.buffer, 0, sizeBytes);
    },
  };
}

function seedOfRun(): number {
  const given = Number(process.env.BERTH_TEST_SEED);
  return Number.isInteger(given) && given > 0 ? given : crypto.getRandomValues(new Uint32Array(1))[0] || 1;
}
