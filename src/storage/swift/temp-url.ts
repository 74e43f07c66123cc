/** TempURLs: with them a client fetches one object from Swift by itself. Source: Swift's tempurl middleware. */

/** How long a client may wait before it follows a URL: as long as Quay's signed URLs live. */
const LIFE_SECONDS = 60;
/** A clock that is wrong by up to this must not make URLs that are dead at birth. */
const SKEW_SECONDS = 60;

/** Signs `url` for one method; a URL for GET is good for HEAD, and not the other way round. */
export function signTempUrl(
  url: URL,
  request: { method: "GET" | "HEAD"; key: string; digest: "sha256" | "sha1"; nowMs: number },
): string {
  const expires = Math.floor(request.nowMs / 1000) + LIFE_SECONDS + SKEW_SECONDS;
  // What is signed is the path as Swift sees it, decoded.
  const text = `${request.method}\n${expires}\n${decodeURIComponent(url.pathname)}`;
  const signature = new Bun.CryptoHasher(request.digest, request.key).update(text).digest("hex");
  return `${url.origin}${url.pathname}?temp_url_sig=${signature}&temp_url_expires=${expires}`;
}
