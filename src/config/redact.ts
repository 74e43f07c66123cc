/**
 * Keeps secrets out of anything that is printed: whole configs for `berth check` and support, and single values inside
 * error messages. A value is a secret by its key's name, or by being a URI with a password in it.
 */

export const REDACTED = "***";

/** Names that hold a secret, Quay's own and those inside blocks that are passed on to other products. */
const SECRET_NAME =
  /passw|passphrase|secret|token|psk|credential|authorization|cookie_value|private_?key|key$|dsn$|^sig$/i;

/** Names that look like one of those but hold a period, a place or a name, and are wanted when looking for a fault. */
const HARMLESS_NAME =
  /^FEATURE_|_(EXPIRATION|LIFETIME|GC|TTL_SEC|COUNT|OWNER|SCOPE|PATH|LOCATION|FILENAME|SERVICE|REFRESH)$|^RECAPTCHA_SITE_KEY$|privatekey_filename$/i;

/** Up to the last @, because a password may hold one; with any number of slashes, because a wrong DB_URI is printed too. */
const URI_PASSWORD = /([a-z][a-z0-9+.-]*:\/*[^\s:@/]*:)(.*)(@)/gi;
/** `user:password@host`, a URI that lost its scheme or the colon behind it; a mail link is none. */
const BARE_PASSWORD = /^(?!mailto:)([^\s:@]*[^\s:@/]:)([^/].*)(@)/i;
const QUERY_SECRET = /([?&;][^=&;\s]*(?:passw|secret|token|key|sig|credential)[^=&;\s]*=)[^&;\s]*/gi;

/** True when a value of this name must not be shown. Takes one key or sub-key, not a path. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name) && !HARMLESS_NAME.test(name);
}

/** Stars the passwords inside URIs of a text, in the user part and in the query, and leaves the rest readable. */
export function redactText(text: string): string {
  return text
    .replace(URI_PASSWORD, `$1${REDACTED}$3`)
    .replace(BARE_PASSWORD, `$1${REDACTED}$3`)
    .replace(QUERY_SECRET, `$1${REDACTED}`);
}

/**
 * A copy of a config, or of any part of one, fit for printing: the same shape with secrets starred. Null, booleans and empty
 * text stay, because "not set" is no secret.
 */
export function redactConfig(config: unknown): unknown {
  return redact(config, false);
}

function redact(value: unknown, isSecret: boolean): unknown {
  if (Array.isArray(value)) return value.map((item) => redact(item, isSecret));
  if (typeof value === "object" && value !== null) {
    // fromEntries defines properties, so that a key named __proto__ stays data.
    return Object.fromEntries(
      Object.entries(value).map(([name, inner]) => [name, redact(inner, isSecret || isSecretName(name))]),
    );
  }
  if (typeof value === "string") return isSecret ? (value === "" ? "" : REDACTED) : redactText(value);
  if (typeof value === "number" || typeof value === "bigint") return isSecret ? REDACTED : value;
  return value;
}
