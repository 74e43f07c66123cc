/** References: what stands after /manifests/, a tag or a digest; and the tag by which old clients list referrers. */

import { RegistryError } from "../errors.ts";
import { type Digest, digestAlgorithm, digestHex, parseDigest } from "./digest.ts";
import { showValue } from "./quote.ts";

declare const tagBrand: unique symbol;

/** 1 to 128 of `[A-Za-z0-9_.-]`, not beginning with `.` or `-`. Made only by `parseTag` and `findTag`. */
export type TagName = string & { readonly [tagBrand]: true };

export type Reference =
  | { readonly kind: "tag"; readonly tag: TagName }
  | { readonly kind: "digest"; readonly digest: Digest };

const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/** True for a valid tag. Spec: distribution-spec "Pulling manifests". */
export function isTag(text: string): text is TagName {
  return TAG.test(text);
}

/** The tag, or undefined when it is not a valid one. */
export function findTag(text: string): TagName | undefined {
  return isTag(text) ? text : undefined;
}

/** Throws `tag_invalid` with Quay's text; the tag itself is in the detail. */
export function parseTag(text: string): TagName {
  if (isTag(text)) return text;
  throw new RegistryError("tag_invalid", {
    message: 'Invalid tag: must match [A-Za-z0-9_.-], NOT start with "." or "-", and can contain 1-128 characters',
    detail: { tag: showValue(text) },
  });
}

/** Anything with a colon is meant as a digest, because no tag has one. Throws `digest_invalid` or `tag_invalid`. */
export function parseReference(text: string): Reference {
  return text.includes(":") ? { kind: "digest", digest: parseDigest(text) } : { kind: "tag", tag: parseTag(text) };
}

/** The text of a reference as it was in the path. */
export function formatReference(reference: Reference): string {
  return reference.kind === "tag" ? reference.tag : reference.digest;
}

/** Most hex characters of the subject's digest that its fallback tag holds, so that sha512 fits into a tag too. */
const FALLBACK_ENCODED_MAX = 64;

/**
 * The tag under which clients of registries without the referrers API keep the index of a subject's referrers:
 * `sha256-<64 hex>`, `sha512-<first 64 hex>`. Spec: distribution-spec "Referrers Tag Schema".
 */
export function fallbackTag(subject: Digest): TagName {
  return `${digestAlgorithm(subject)}-${digestHex(subject).slice(0, FALLBACK_ENCODED_MAX)}` as TagName;
}
