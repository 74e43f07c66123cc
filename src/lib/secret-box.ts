/**
 * Encrypts short texts with AES-256-GCM: for rows of the database (robot tokens, keys, credentials) under
 * DATABASE_SECRET_KEY, and what is handed out under SECRET_KEY. A value sealed under another key or for another purpose
 * does not open.
 */

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

export interface SecretBox {
  seal(plain: string): string;
  /** Throws when the text was sealed under another key or has been changed. */
  open(sealed: string): string;
}

const VERSION = "v1";
/** How every sealed text begins. */
export const SEALED_PREFIX = `${VERSION}.`;
const IV_BYTES = 12;
const TAG_BYTES = 16;

export function createSecretBox(keyText: string, purpose = "database fields"): SecretBox {
  const key = Buffer.from(hkdfSync("sha256", keyText, "berth", purpose, 32));
  return {
    seal(plain) {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv("aes-256-gcm", key, iv);
      const body = Buffer.concat([cipher.update(plain, "utf8"), cipher.final()]);
      return `${VERSION}.${Buffer.concat([iv, cipher.getAuthTag(), body]).toString("base64url")}`;
    },
    open(sealed) {
      const [version, payload] = sealed.split(".");
      if (version !== VERSION || payload === undefined) throw new Error("not a sealed value of a known version");
      const bytes = Buffer.from(payload, "base64url");
      const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, IV_BYTES));
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
      return decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
    },
  };
}
