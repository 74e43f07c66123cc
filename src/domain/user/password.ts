/**
 * Password hashing with argon2id, bounded: each hash needs its memory for some 20 ms, so only a few run at once and a
 * flood of log-ins is told to come back instead of taking the machine.
 */

import { RegistryError } from "../../errors.ts";
import { Semaphore } from "../../lib/semaphore.ts";

export interface PasswordHasher {
  hash(password: string): Promise<string>;
  verify(password: string, hash: string): Promise<boolean>;
  /** Takes as long as `verify` and is never true: for names that do not exist, so that time does not tell them apart. */
  verifyNothing(password: string): Promise<false>;
}

/** OWASP's smaller argon2id profile: 19 MiB, 2 passes. */
const ARGON2 = { algorithm: "argon2id", memoryCost: 19 * 1024, timeCost: 2 } as const;
const RUNNING_MAX = 4;
const WAITING_MAX = 256;

export function createPasswordHasher(): PasswordHasher {
  const places = new Semaphore(RUNNING_MAX, WAITING_MAX);
  let nothing: Promise<string> | undefined;

  function refuse(): never {
    throw new RegistryError("too_many_requests", {
      message: "too many log-ins are being checked, try again in a second",
      headers: { "Retry-After": "1" },
    });
  }

  const hash = (password: string) => places.run(() => Bun.password.hash(password, ARGON2), refuse);
  const verify = (password: string, stored: string) =>
    places.run(() => Bun.password.verify(password, stored).catch(() => false), refuse);

  return {
    hash,
    verify,
    async verifyNothing(password) {
      nothing ??= Bun.password.hash(crypto.randomUUID(), ARGON2);
      await verify(password, await nothing);
      return false;
    },
  };
}
