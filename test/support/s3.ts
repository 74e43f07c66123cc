/**
 * Gives tests a real S3 server with empty buckets: versitygw over a folder, or Ceph's radosgw. One at an address in the
 * environment is shared by all that ask; else each test process starts its own.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Signer, sha256Hex } from "../../src/storage/s3/sign.ts";
import { childrenOf, parseXml, textOf, type XmlElement } from "../../src/storage/s3/xml.ts";
import { startCeph } from "./ceph.ts";
import { findGoTool } from "./go-tools.ts";
import { freePort, listeningPorts, startProcess } from "./process.ts";
import { makeTempDir } from "./temp-dir.ts";

export type S3Kind = "versitygw" | "ceph";

export interface S3Options {
  /** Of the server's own certificate, in PEM: it then speaks TLS. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  /** Lets versitygw find a bucket's name before this host name too. */
  readonly virtualDomain?: string;
  /** Where versitygw keeps its buckets, instead of a folder that goes with it. */
  readonly dataDir?: string;
  readonly port?: number;
}

export interface S3Server {
  readonly kind: S3Kind;
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  readonly host: string;
  readonly port: number;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly region: string;
  /** For TEST_S3_URI or TEST_CEPH_URI, so that another process uses this server. */
  readonly uri: string;
  /** Process id of the server, undefined for one that is not ours. */
  readonly pid: number | undefined;
  /** Makes an empty bucket, with a random name unless given, and gives its name. */
  createBucket(name?: string): Promise<string>;
  /** An engine of DISTRIBUTED_STORAGE_CONFIG on the bucket: `[driver, {arguments}]`, with `more` arguments. */
  engineConfig(bucket: string, more?: Record<string, unknown>): [string, Record<string, unknown>];
  /** A signed request to `/bucket/key?query`, past the driver under test. */
  request(method: string, path: string, init?: { body?: string; headers?: Record<string, string> }): Promise<Response>;
  /** Keys of a bucket, sorted, without the health check's. */
  keys(bucket: string, prefix?: string): Promise<string[]>;
  /** The same with what else a listing tells; `mark` is another one when the object was written anew. */
  objects(bucket: string, prefix?: string): Promise<{ key: string; sizeBytes: number; mark: string }[]>;
  /** Keys of multipart uploads that nobody completed. */
  multiparts(bucket: string): Promise<string[]>;
  /** Ends the server and removes its data; does nothing to one that is not ours. */
  stop(): Promise<void>;
}

/** What a server of some kind needs to be spoken to. */
export interface S3Address {
  readonly kind: S3Kind;
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly pid?: number;
}

const region = "us-east-1";
/** Names the server in the environment. */
const variables: Record<S3Kind, string> = { versitygw: "TEST_S3_URI", ceph: "TEST_CEPH_URI" };

/** The server in the environment (`http://KEY:SECRET@HOST:PORT`), else one that this process starts and all its tests share. */
export async function startS3(kind: S3Kind = "versitygw"): Promise<S3Server> {
  const given = process.env[variables[kind]];
  if (given) {
    const { origin, username, password } = new URL(given);
    const keys = { accessKey: decodeURIComponent(username), secretKey: decodeURIComponent(password) };
    return serverAt({ kind, endpoint: origin, ...keys }, async () => undefined);
  }
  return startOwnS3(kind);
}

/** A server of its own, which a test may end. */
export async function startOwnS3(kind: S3Kind = "versitygw", options: S3Options = {}): Promise<S3Server> {
  if (kind === "versitygw") return startVersitygw(options);
  const ceph = await startCeph();
  return serverAt({ kind, ...ceph }, ceph.stop);
}

/** Speaks to an address whose server is somebody else's, such as a proxy in front of one. */
export function s3At(server: S3Server, endpoint: string): S3Server {
  const { kind, accessKey, secretKey } = server;
  return serverAt({ kind, endpoint, accessKey, secretKey }, async () => undefined);
}

async function startVersitygw(options: S3Options): Promise<S3Server> {
  const found = await findGoTool("versitygw");
  if (found.kind === "missing") throw new Error(found.reason);
  const dir = makeTempDir("s3");
  const dataDir = options.dataDir ?? join(dir.path, "buckets");
  mkdirSync(dataDir, { recursive: true });
  const port = options.port ?? (await freePort());
  const keys = { accessKey: "AKVERSITY", secretKey: "versity-secret-of-tests" };
  const tls = options.tls ? ["--cert", options.tls.certFile, "--key", options.tls.keyFile] : [];
  const byName = options.virtualDomain === undefined ? [] : ["--virtual-domain", options.virtualDomain];
  const child = startProcess({
    command: found.path,
    args: [
      ...["--port", `127.0.0.1:${port}`, "--access", keys.accessKey, "--secret", keys.secretKey],
      ...["--region", region, "--quiet", "--keep-alive", ...tls, ...byName, "posix", dataDir],
    ],
    name: "versitygw",
  });
  const endpoint = `${options.tls ? "https" : "http"}://127.0.0.1:${port}`;
  const stop = async () => {
    await child.stop();
    dir.remove();
  };
  try {
    const accept = (status: number) => status < 500;
    if (options.tls) await waitUntil(() => listeningPorts(child.pid).includes(port));
    else await child.waitForUrl(endpoint, { timeoutMs: 30_000, accept });
    if (!listeningPorts(child.pid).includes(port)) throw new Error(`port ${port} belongs to another program`);
  } catch (error) {
    await stop();
    throw error;
  }
  return serverAt({ kind: "versitygw", endpoint, ...keys, pid: child.pid }, stop);
}

function serverAt(address: S3Address, stop: () => Promise<void>): S3Server {
  const { kind, endpoint, accessKey, secretKey } = address;
  const url = new URL(endpoint);
  const credentials = async () => ({ accessKeyId: accessKey, secretAccessKey: secretKey });
  const signer = new Signer({ region, service: "s3", credentials, clock: { nowMs: () => Date.now() } });

  const request: S3Server["request"] = async (method, path, { body, headers = {} } = {}) => {
    const target = new URL(path, endpoint);
    const signed = await signer.sign({ method, url: target, headers, payloadHash: sha256Hex(body ?? "") });
    return fetch(target, { method, headers: signed, redirect: "manual", ...(body === undefined ? {} : { body }) });
  };
  /** Elements of a listing, page after page. `next` gives the query of the page that follows one. */
  const list = async (
    path: string,
    element: string,
    next: (page: XmlElement) => Record<string, string | undefined>,
  ) => {
    const found: XmlElement[] = [];
    for (let more: Record<string, string | undefined> | undefined = {}; more; ) {
      const query = Object.entries(more).map(([name, value]) => `&${name}=${encodeURIComponent(value ?? "")}`);
      const response = await request("GET", path + query.join(""));
      const text = await response.text();
      const page = parseXml(text);
      if (response.status !== 200 || !page) throw new Error(`listing ${path} ended with ${response.status}: ${text}`);
      found.push(...childrenOf(page, element).filter((entry) => !textOf(entry, "Key")?.endsWith("/.check")));
      more = textOf(page, "IsTruncated") === "true" ? next(page) : undefined;
    }
    return found;
  };
  const objects: S3Server["objects"] = async (bucket, prefix = "") => {
    const entries = await list(`/${bucket}?list-type=2&prefix=${encodeURIComponent(prefix)}`, "Contents", (page) => ({
      "continuation-token": textOf(page, "NextContinuationToken"),
    }));
    const described = entries.map((entry) => ({
      key: textOf(entry, "Key") ?? "",
      sizeBytes: Number(textOf(entry, "Size")),
      mark: ["ETag", "LastModified", "Size"].map((name) => textOf(entry, name)).join(" "),
    }));
    return described.sort((a, b) => (a.key < b.key ? -1 : 1));
  };
  return {
    kind,
    endpoint,
    host: url.hostname,
    port: Number(url.port),
    accessKey,
    secretKey,
    region,
    uri: `${url.protocol}//${accessKey}:${secretKey}@${url.host}`,
    pid: address.pid,
    async createBucket(name = `berth-${crypto.randomUUID()}`) {
      const response = await request("PUT", `/${name}`);
      if (response.status !== 200) throw new Error(`making a bucket: ${response.status} ${await response.text()}`);
      return name;
    },
    engineConfig(bucket, more = {}) {
      const isSecure = url.protocol === "https:";
      const storagePath = { storage_path: "/datastorage/registry" };
      if (kind === "versitygw") {
        const own = { s3_bucket: bucket, s3_access_key: accessKey, s3_secret_key: secretKey, s3_region: region };
        const at = { host: url.hostname, port: Number(url.port), is_secure: isSecure };
        return ["S3Storage", { ...storagePath, ...own, ...at, ...more }];
      }
      const own = { bucket_name: bucket, access_key: accessKey, secret_key: secretKey };
      const at = { hostname: url.hostname, port: Number(url.port), is_secure: isSecure };
      return ["RadosGWStorage", { ...storagePath, ...own, ...at, ...more }];
    },
    request,
    objects,
    keys: async (bucket, prefix) => (await objects(bucket, prefix)).map(({ key }) => key),
    async multiparts(bucket) {
      const entries = await list(`/${bucket}?uploads=`, "Upload", (page) => ({
        "key-marker": textOf(page, "NextKeyMarker"),
        "upload-id-marker": textOf(page, "NextUploadIdMarker"),
      }));
      return entries.map((entry) => textOf(entry, "Key") ?? "").sort();
    },
    stop,
  };
}

async function waitUntil(probe: () => boolean, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!probe()) {
    if (performance.now() > deadline) throw new Error(`still not so after ${timeoutMs} ms`);
    await Bun.sleep(20);
  }
}
