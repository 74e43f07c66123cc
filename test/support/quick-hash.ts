/** Hashes of passwords that cost next to nothing to make and to compare, for users whose log-ins are not what is tried. */

const hashes = new Map<string, Promise<string>>();

/** The same hash for the same password throughout a run. */
export function quickHash(password: string): Promise<string> {
  const known = hashes.get(password);
  if (known) return known;
  const hash = Bun.password.hash(password, { algorithm: "argon2id", memoryCost: 1024, timeCost: 1 });
  hashes.set(password, hash);
  return hash;
}
