/**
 * Encrypted passwords, which Quay calls client keys: the password under SECRET_KEY, to be written into files of command
 * line clients in place of the password itself. They are good wherever such a client logs in, and for nothing else.
 */

import type { App } from "../../app.ts";
import { createSecretBox, SEALED_PREFIX } from "../../lib/secret-box.ts";

type KeyApp = Pick<App, "secretKey">;

/** The password as a client key. Source: quay-behaviour reference, section 1 ("Encrypted password"). */
export function makeClientKey(app: KeyApp, password: string): string {
  return boxOf(app).seal(JSON.stringify({ password }));
}

/** The password inside a client key; undefined for a text that is none of ours, which is then a plain password. */
export function openClientKey(app: KeyApp, text: string): string | undefined {
  if (!text.startsWith(SEALED_PREFIX)) return undefined;
  try {
    const inside: unknown = JSON.parse(boxOf(app).open(text));
    if (typeof inside !== "object" || inside === null || !("password" in inside)) return undefined;
    return typeof inside.password === "string" ? inside.password : undefined;
  } catch {
    return undefined;
  }
}

function boxOf(app: KeyApp) {
  return createSecretBox(app.secretKey, "client keys");
}
