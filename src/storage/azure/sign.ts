/**
 * How requests to Azure's Blob service prove who sends them: SharedKey in a header, or a shared access signature (SAS) in
 * the URL. Pure; times are given. Source: Blob service REST API, "Authorize with Shared Key" and "Create a service SAS".
 */

/** Version of the service's API that every request and signature names: the rules of signing go by it. */
export const SERVICE_VERSION = "2020-12-06";

/** Headers that are signed by their place and not by their name, in that order. */
const PLACED_HEADERS = [
  "content-encoding",
  "content-language",
  "content-length",
  "content-md5",
  "content-type",
  "date",
  "if-modified-since",
  "if-match",
  "if-none-match",
  "if-unmodified-since",
  "range",
] as const;

export interface RequestToSign {
  readonly method: string;
  /** As it is sent: the path stays encoded. */
  readonly url: URL;
  /** Names in lower case; `content-length` among them when there is a body. */
  readonly headers: Readonly<Record<string, string>>;
}

/** The text that a SharedKey signature covers. */
export function stringToSign(account: string, { method, url, headers }: RequestToSign): string {
  const placed = PLACED_HEADERS.map((name) => {
    const value = headers[name] ?? "";
    return name === "content-length" && value === "0" ? "" : value;
  });
  const own = inOrder(Object.entries(headers).filter(([name]) => name.startsWith("x-ms-")));
  const query = inOrder([...url.searchParams]);
  return [method, ...placed, ...own, `/${account}${url.pathname}`, ...query].join("\n");
}

/** The `Authorization` header of a request. `key` is the account's, as Azure shows it. */
export function sharedKey(account: string, key: string, request: RequestToSign): string {
  return `SharedKey ${account}:${hmac(key, stringToSign(account, request))}`;
}

export interface BlobSas {
  readonly account: string;
  readonly key: string;
  readonly container: string;
  /** Not encoded. */
  readonly blob: string;
  /** Epoch ms; whole seconds count. */
  readonly expiresMs: number;
  readonly httpsOnly: boolean;
  /** Headers that the answer carries in place of the blob's own. */
  readonly answer?: {
    readonly cacheControl: string;
    readonly contentDisposition: string;
    readonly contentType: string;
  };
}

/** The query with which anybody may read one blob until it expires, by GET and by HEAD. */
export function blobSas({ account, key, container, blob, expiresMs, httpsOnly, answer }: BlobSas): string {
  const expires = `${new Date(expiresMs).toISOString().slice(0, 19)}Z`;
  const protocol = httpsOnly ? "https" : "";
  const { cacheControl = "", contentDisposition = "", contentType = "" } = answer ?? {};
  const resource = `/blob/${account}/${container}/${blob}`;
  // Empty places: start, identifier, address; snapshot, encryption scope; encoding, language of the answer.
  const text = ["r", "", expires, resource, "", "", protocol, SERVICE_VERSION, "b", "", ""];
  text.push(cacheControl, contentDisposition, "", "", contentType);
  const query = new URLSearchParams({ sv: SERVICE_VERSION, se: expires, sr: "b", sp: "r" });
  for (const [name, value] of Object.entries({
    spr: protocol,
    rscc: cacheControl,
    rscd: contentDisposition,
    rsct: contentType,
  })) {
    if (value !== "") query.set(name, value);
  }
  query.set("sig", hmac(key, text.join("\n")));
  // A plus would be a space to some readers of URLs.
  return query.toString().replaceAll("+", "%20");
}

/** `name:value` by name: sorted as whole texts, a name would come behind the longer one that begins with it. */
function inOrder(pairs: readonly [string, string][]): string[] {
  return pairs
    .map(([name, value]): [string, string] => [name.toLowerCase(), value.trim()])
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}:${value}`);
}

function hmac(key: string, text: string): string {
  return new Bun.CryptoHasher("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
}
