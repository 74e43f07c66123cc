/** The HTTP of the crash test: one request, one connection, and a broken connection as an error of its own. */
import { describeResponse, pushScope, RegistryClient } from "../support/registry-client.ts";
import { ABSENT, type Key, type Ledger, PRESENT, type State } from "./ledger.ts";
import { bytesOf } from "./random.ts";

/** The server did not answer: it was killed before, or while it worked. */
export class ConnectionLost extends Error {}

export interface Call {
  method?: string;
  headers?: Record<string, string>;
  body?: Uint8Array;
  /** More scopes than that of the repository. */
  scopes?: string[];
}

/** Speaks for one ledger's repository. */
export class CrashClient {
  readonly #client: RegistryClient;
  readonly #repository: string;

  constructor(url: string, password: string, repository: string) {
    this.#client = new RegistryClient({ url, username: "admin", password });
    this.#repository = repository;
  }

  /**
   * Sends a request and gives its answer, with the body read. Throws `ConnectionLost`. Connections are not kept: a request
   * on one that a dead server left would fail without having been tried.
   */
  async send(path: string, call: Call = {}): Promise<{ response: Response; body: Uint8Array }> {
    try {
      const response = await this.#client.request(path, {
        method: call.method ?? "GET",
        headers: { connection: "close", ...call.headers },
        ...(call.body === undefined ? {} : { body: new Uint8Array(call.body) }),
        scope: [pushScope(this.#repository), ...(call.scopes ?? [])].join(" "),
      });
      const copy = response.clone();
      const body = new Uint8Array(await response.arrayBuffer());
      if (response.status >= 500) throw new Error(await describeResponse(copy));
      return { response: copy, body };
    } catch (error) {
      if (isBroken(error)) throw new ConnectionLost(`${call.method ?? "GET"} ${path}`, { cause: error });
      throw error;
    }
  }

  /** What is there now. Throws when bytes come back that were never pushed under this name. */
  async observe(ledger: Ledger, key: Key): Promise<State> {
    const [kind = "", name = ""] = splitOnce(key);
    const path = kind === "blob" ? `blobs/${name}` : `manifests/${name}`;
    const { response, body } = await this.send(`/v2/${ledger.repository}/${path}`, { headers: { accept: "*/*" } });
    if (response.status === 404) return ABSENT;
    if (response.status !== 200) throw new Error(`${key} of ${ledger.repository}: ${await describeResponse(response)}`);
    const digest = response.headers.get("docker-content-digest") ?? "";
    const expected = expectedBytes(ledger, kind, digest);
    if (!expected || Buffer.compare(body, expected) !== 0) {
      throw new Error(`${key} of ${ledger.repository} has ${body.length} bytes that are not those of "${digest}"`);
    }
    if (kind === "tag") return digest;
    if (digest !== name) throw new Error(`${key} of ${ledger.repository} came back as "${digest}"`);
    return PRESENT;
  }
}

function expectedBytes(ledger: Ledger, kind: string, digest: string): Uint8Array | undefined {
  if (kind !== "blob") return ledger.manifests.get(digest)?.content;
  const content = ledger.blobs.get(digest);
  return content && bytesOf(content);
}

function splitOnce(key: Key): [string, string] {
  const colon = key.indexOf(":");
  return [key.slice(0, colon), key.slice(colon + 1)];
}

/** fetch tells of refused, reset and half-read connections by these codes. */
function isBroken(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^(ConnectionRefused|ConnectionClosed|ECONNRESET|ECONNREFUSED|EPIPE|FailedToOpenSocket)$/.test(code);
}
