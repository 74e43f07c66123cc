/** The certificate authorities that outgoing TLS trusts: the system's and those of extra_ca_certs. */

import { readFile } from "node:fs/promises";

/**
 * Gives the PEM texts to trust, read once when they are first asked for; empty when there are no extra ones, which means
 * the system's own. Throws when a file cannot be read, and reads again then.
 */
export function createAuthorities(extraCaPaths: readonly string[]): () => Promise<readonly string[]> {
  let reading: Promise<readonly string[]> | undefined;
  const read = async () => {
    if (extraCaPaths.length === 0) return [];
    const extra = await Promise.all(extraCaPaths.map((path) => readFile(path, "utf8")));
    // Naming some replaces the default, so the default is named too. Loaded here: most starts never need it.
    return [...(await import("node:tls")).rootCertificates, ...extra];
  };
  return () => {
    reading ??= read().catch((error: unknown) => {
      reading = undefined;
      throw error;
    });
    return reading;
  };
}
