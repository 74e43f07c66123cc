/**
 * One client of the crash test at work in its own repository: image pushes in every shape, tag moves, deletions, mounts
 * from the other clients' repositories, and uploads that are left half done and taken up later.
 */
import { digestOf, mediaTypes, pullScope, toBytes, uploadLocation, withDigest } from "../support/registry-client.ts";
import type { Call, CrashClient } from "./client.ts";
import { ABSENT, type Key, type Ledger, type OpenUpload, PRESENT, type State } from "./ledger.ts";
import { bytesOf, type Content, type Random } from "./random.ts";

export interface LoadOptions {
  readonly ledger: Ledger;
  /** The other clients' ledgers, to mount from. */
  readonly others: readonly Ledger[];
  readonly client: CrashClient;
  readonly random: Random;
  /** Content that several clients push at the same time. */
  readonly shared: readonly Content[];
  /** Ends the load between two operations, where no kill ends it. */
  readonly isOver?: () => boolean;
  /** The database may have lost its last moments: how far an upload got is not promised beyond that, only what it ends in. */
  readonly mayForgetUploads?: boolean;
  /** Now and then a blob that takes a store several steps, in bytes. */
  readonly large?: { readonly share: number; readonly min: number; readonly max: number } | undefined;
}

const TAGS = 12;
const UPLOADS_OPEN_MAX = 3;
const octets = { "content-type": "application/octet-stream" };

/**
 * Works until it is told to stop or the server is gone: then it ends by throwing `ConnectionLost`, or any other error when
 * something is wrong.
 */
export async function runLoad(options: LoadOptions): Promise<void> {
  const isOver = options.isOver ?? (() => false);
  for (const upload of [...options.ledger.uploads]) await resumeUpload(options, upload);
  while (!isOver()) await step(options);
}

function step(options: LoadOptions): Promise<void> {
  const choice = options.random.next();
  if (choice < 0.45) return pushImage(options);
  if (choice < 0.58) return moveTag(options);
  if (choice < 0.66) return deleteTag(options);
  if (choice < 0.75) return deleteManifest(options);
  if (choice < 0.85) return deleteBlob(options);
  return mount(options);
}

/** Sends a request that makes these changes, and notes what became of it. `refusals` are answers that change nothing. */
async function attempt(
  { ledger, client }: LoadOptions,
  name: string,
  changes: ReadonlyMap<Key, State>,
  path: string,
  call: Call & { expected: number; refusals?: readonly number[] },
): Promise<Response> {
  ledger.begin({ name, changes });
  const { response, body } = await client.send(path, call);
  if (response.status === call.expected) ledger.acknowledge();
  else ledger.refuse();
  if (response.status === call.expected || call.refusals?.includes(response.status)) return response;
  throw new Error(`${name} in ${ledger.repository}: ${response.status} ${new TextDecoder().decode(body)}`);
}

async function pushImage(options: LoadOptions): Promise<void> {
  const { ledger, random, shared } = options;
  const digests: { digest: string; size: number }[] = [];
  for (let left = random.between(1, 3); left > 0; left--) {
    const fresh = { seed: random.between(1, 2 ** 31), sizeBytes: sizeOf(options) };
    const content = random.chance(0.3) ? (random.pick(shared) ?? fresh) : fresh;
    const digest = digestOf(bytesOf(content), random.chance(0.1) ? "sha512" : "sha256");
    ledger.blobs.set(digest, content);
    if (!(await pushBlob(options, content, digest))) return;
    digests.push({ digest, size: content.sizeBytes });
  }
  const [config, ...layers] = digests;
  const content = toBytes({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: { mediaType: mediaTypes.config, ...config },
    layers: layers.map((layer) => ({ mediaType: mediaTypes.layer, ...layer })),
    annotations: { number: String(random.between(0, 2 ** 31)) },
  });
  const digest = digestOf(content);
  ledger.manifests.set(digest, { content, blobs: digests.map((blob) => blob.digest) });
  const tags = [tagName(random), ...(random.chance(0.2) ? [tagName(random)] : [])];
  await putManifest(options, "push manifest", digest, tags);
}

async function putManifest(options: LoadOptions, name: string, digest: string, tags: string[]): Promise<void> {
  const { ledger } = options;
  const manifest = ledger.manifests.get(digest);
  if (!manifest) throw new Error(`no manifest ${digest} was ever made`);
  const changes = new Map<Key, State>([[`manifest:${digest}`, PRESENT]]);
  for (const tag of tags) changes.set(`tag:${tag}`, digest);
  const query = tags.slice(1).map((tag) => `tag=${tag}`);
  await attempt(options, name, changes, `/v2/${ledger.repository}/manifests/${tags[0]}?${query.join("&")}`, {
    method: "PUT",
    body: manifest.content,
    headers: { "content-type": mediaTypes.manifest },
    expected: 201,
  });
}

/** False when the upload was left half done. */
async function pushBlob(options: LoadOptions, content: Content, digest: string): Promise<boolean> {
  const { ledger, random } = options;
  const base = `/v2/${ledger.repository}/blobs/uploads/`;
  if (random.chance(0.25)) {
    const call = { method: "POST", body: bytesOf(content), headers: octets, expected: 201 };
    await attempt(options, "push blob in one POST", blobChange(digest), `${base}?digest=${digest}`, call);
    return true;
  }
  const started = await attempt(options, "start upload", new Map(), base, { method: "POST", expected: 202 });
  const upload: OpenUpload = {
    location: uploadLocation(started),
    content,
    digest,
    acknowledgedBytes: 0,
    inFlightBytes: 0,
  };
  ledger.uploads.add(upload);
  return sendRest(options, upload, ledger.uploads.size < UPLOADS_OPEN_MAX);
}

/** Sends what the session lacks, in chunks, as a stream or with the last PUT. False when it was left half done. */
async function sendRest(options: LoadOptions, upload: OpenUpload, mayLeave: boolean): Promise<boolean> {
  const { ledger, random } = options;
  const bytes = bytesOf(upload.content);
  const chunks = random.between(0, 3);
  for (let left = chunks; left > 0 && upload.acknowledgedBytes < bytes.length; left--) {
    const start = upload.acknowledgedBytes;
    const end = left === 1 ? bytes.length : Math.min(bytes.length, start + Math.ceil(bytes.length / chunks));
    const range = random.chance(0.5) ? { "content-range": `${start}-${end - 1}` } : {};
    upload.inFlightBytes = end;
    const patched = await attempt(options, "append to upload", new Map(), upload.location, {
      method: "PATCH",
      body: bytes.subarray(start, end),
      headers: { ...octets, ...range },
      expected: 202,
    });
    upload.location = uploadLocation(patched);
    upload.acknowledgedBytes = end;
    if (mayLeave && random.chance(0.15)) return false;
  }
  ledger.uploads.delete(upload);
  await attempt(options, "push blob", blobChange(upload.digest), withDigest(upload.location, upload.digest), {
    method: "PUT",
    expected: 201,
    headers: octets,
    body: bytes.subarray(upload.acknowledgedBytes),
  });
  return true;
}

/** Takes up a session after a restart: it stands where the last acknowledged PATCH left it, or the one after. */
async function resumeUpload(options: LoadOptions, upload: OpenUpload): Promise<void> {
  const { response } = await options.client.send(upload.location);
  const offset = Number(/^0-(\d+)$/.exec(response.headers.get("range") ?? "")?.[1] ?? -1) + 1;
  const acknowledged = upload.acknowledgedBytes;
  if (options.mayForgetUploads && (response.status === 404 || offset < acknowledged)) {
    // As a client does that asks where it stands: from there, or anew.
    if (response.status === 404) options.ledger.uploads.delete(upload);
    else upload.acknowledgedBytes = upload.inFlightBytes = offset > 1 ? offset : 0;
    return response.status === 404 ? undefined : void (await sendRest(options, upload, false));
  }
  // An empty session and one of a single byte are both "0-0" on the wire.
  const possible = [acknowledged, upload.inFlightBytes].map((bytes) => Math.max(bytes, 1));
  if (response.status !== 204 || !possible.includes(offset)) {
    throw new Error(`the upload ${upload.location} is at ${offset} (${response.status}), acknowledged ${acknowledged}`);
  }
  upload.acknowledgedBytes = offset === Math.max(acknowledged, 1) ? acknowledged : upload.inFlightBytes;
  upload.inFlightBytes = upload.acknowledgedBytes;
  await sendRest(options, upload, false);
}

async function moveTag(options: LoadOptions): Promise<void> {
  const { ledger, random } = options;
  const present = new Set(ledger.present("blob"));
  // One that was deleted comes back when its blobs are still there.
  const pushable = [...ledger.manifests].filter(([, manifest]) => manifest.blobs.every((blob) => present.has(blob)));
  const digest = random.pick(pushable)?.[0];
  if (digest !== undefined) await putManifest(options, "move tag", digest, [tagName(random)]);
}

async function deleteTag(options: LoadOptions): Promise<void> {
  const { ledger, random } = options;
  const tag = random.pick(ledger.present("tag"));
  if (tag === undefined) return;
  const changes = new Map<Key, State>([[`tag:${tag}`, ABSENT]]);
  const call = { method: "DELETE", expected: 202 };
  await attempt(options, "delete tag", changes, `/v2/${ledger.repository}/manifests/${tag}`, call);
}

async function deleteManifest(options: LoadOptions): Promise<void> {
  const { ledger, random } = options;
  const digest = random.pick(ledger.present("manifest"));
  if (digest === undefined) return;
  const changes = new Map<Key, State>([[`manifest:${digest}`, ABSENT]]);
  for (const tag of ledger.present("tag")) if (ledger.state(`tag:${tag}`) === digest) changes.set(`tag:${tag}`, ABSENT);
  const call = { method: "DELETE", expected: 202 };
  await attempt(options, "delete manifest", changes, `/v2/${ledger.repository}/manifests/${digest}`, call);
}

async function deleteBlob(options: LoadOptions): Promise<void> {
  const { ledger, random } = options;
  const digest = random.pick(ledger.present("blob"));
  if (digest === undefined) return;
  const isNamed = ledger.namedBlobs().has(digest);
  const changes = new Map<Key, State>(isNamed ? [] : [[`blob:${digest}`, ABSENT]]);
  const call = { method: "DELETE", expected: isNamed ? 409 : 202 };
  const name = isNamed ? "be refused a blob's deletion" : "delete blob";
  await attempt(options, name, changes, `/v2/${ledger.repository}/blobs/${digest}`, call);
}

/** The source's client may be deleting the blob at this moment: then the mount is an upload, and nothing has changed. */
async function mount(options: LoadOptions): Promise<void> {
  const { ledger, others, random } = options;
  const source = random.pick(others);
  const digest = source && random.pick(source.present("blob"));
  const content = digest === undefined ? undefined : source?.blobs.get(digest);
  if (!source || digest === undefined || !content) return;
  ledger.blobs.set(digest, content);
  const path = `/v2/${ledger.repository}/blobs/uploads/?mount=${digest}&from=${source.repository}`;
  const call = { method: "POST", expected: 201, refusals: [202], scopes: [pullScope(source.repository)] };
  await attempt(options, "mount blob", blobChange(digest), path, call);
}

function blobChange(digest: string): Map<Key, State> {
  return new Map<Key, State>([[`blob:${digest}`, PRESENT]]);
}

function tagName(random: Random): string {
  return `v${random.between(1, TAGS)}`;
}

/** Mostly small; now and then larger than one of the server's buffers. */
function sizeOf({ random, large }: LoadOptions): number {
  if (large && random.chance(large.share)) return random.between(large.min, large.max);
  return random.chance(0.1) ? random.between(200_000, 800_000) : random.between(1, 20_000);
}
