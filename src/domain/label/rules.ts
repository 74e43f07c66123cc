/** What a label may look like. Source: quay-behaviour reference, sections 1 and 7; reserved prefixes: quay-config, section 5. */

import { RegistryError } from "../../errors.ts";
import { quoteValue, showValue } from "../../oci/quote.ts";
import { EXPIRY_LABEL } from "../tag/expiration.ts";

export const LABEL_KEY_LENGTH_MAX = 255;
/** Characters: room for the JSON that some tools put into labels, and no more. */
export const LABEL_VALUE_LENGTH_MAX = 65_536;

export const LABEL_MEDIA_TYPES = ["text/plain", "application/json"] as const;
export type LabelMediaType = (typeof LABEL_MEDIA_TYPES)[number];

/** Small letters and digits, single dots and dashes between them. */
const KEY = /^[a-z0-9]+(?:[.-][a-z0-9]+)*$/;

const RESERVED_PREFIXES: readonly string[] = [
  "com.docker.",
  "io.docker.",
  "org.dockerproject.",
  "org.opencontainers.",
  "io.cncf.",
  "io.kubernetes.",
  "io.k8s.",
  "io.quay",
  "com.coreos",
  "com.tectonic",
  "internal",
  "quay",
];

/** Throws `invalid_request` for a key that the API does not take; `reservedPrefixes` are those of the config. */
export function requireLabelKey(key: string, reservedPrefixes: readonly string[]): void {
  const isReserved = [...RESERVED_PREFIXES, ...reservedPrefixes].some((prefix) => key.startsWith(prefix));
  // The one key of ours that people are meant to set.
  if (isReserved && key !== EXPIRY_LABEL) {
    throw new RegistryError("invalid_request", { message: "Label has a reserved prefix" });
  }
  if (key.length > LABEL_KEY_LENGTH_MAX || !KEY.test(key)) {
    throw new RegistryError("invalid_request", {
      message: `Label key is invalid: Key \`${showValue(key)}\` is invalid or reserved`,
    });
  }
}

/** Throws `invalid_request` for a value that cannot be kept. */
export function requireLabelValue(value: string): void {
  if (value.length > LABEL_VALUE_LENGTH_MAX) {
    throw new RegistryError("invalid_request", {
      message: `The label's value has ${value.length} characters, at most ${LABEL_VALUE_LENGTH_MAX} are taken`,
    });
  }
  if (value.includes("\0")) {
    throw new RegistryError("invalid_request", { message: "The label's value must not hold a NUL character" });
  }
}

/** The media type as given, or what the value looks like. Throws `invalid_request` for any other. */
export function labelMediaType(given: string | null | undefined, value: string): LabelMediaType {
  if (given === undefined || given === null) return looksLikeJson(value) ? "application/json" : "text/plain";
  const known = LABEL_MEDIA_TYPES.find((type) => type === given);
  if (known) return known;
  throw new RegistryError("invalid_request", {
    message: `The media type ${quoteValue(given)} is not one of a label, use ${LABEL_MEDIA_TYPES.join(" or ")}`,
  });
}

/** An object or array; a bare number or word is text to a reader. */
function looksLikeJson(value: string): boolean {
  const start = value.trimStart()[0];
  if (start !== "{" && start !== "[") return false;
  try {
    JSON.parse(value);
    return true;
  } catch {
    return false;
  }
}
