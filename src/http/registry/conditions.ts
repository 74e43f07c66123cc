/** Conditional requests (RFC 9110, section 13): whether what the client has is what it would get. */

/** True when an `If-None-Match` header holds this entity tag, weakly compared, or `*`. */
export function matchesEtag(header: string, etag: string): boolean {
  if (header.trim() === "*") return true;
  return header.split(",").some((candidate) => candidate.trim().replace(/^W\//, "") === etag);
}
