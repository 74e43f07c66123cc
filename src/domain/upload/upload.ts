/**
 * Uploads: a session belongs to one repository and one principal and carries the grant it was started with. Bytes stream
 * through the hash into the store; nothing is held but what the writer has in flight. Spec: distribution-spec "Push".
 */

import type { App } from "../../app.ts";
import { sizeBytes } from "../../config/units.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { createHasher, type Digest, type DigestAlgorithm, digestAlgorithm, type Hasher } from "../../oci/digest.ts";
import { formatUploadRange } from "../../oci/range.ts";
import { blobKey } from "../../storage/paths.ts";
import { type Caller, principalName } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { findBlobAnywhere, linkBlob, putBlob } from "../blob/queries.ts";
import { beingDeleted, RELIABLE_MS, reserveBlob } from "../blob/reserve.ts";
import { findQuotaState, requireRoom, tellingOfQuota } from "../quota/check.ts";
import { queueReplication } from "../replication/targets.ts";
import { cutOff, isHangUp, NO_BYTES, release, requireLength, requireRange, tooLarge, type UploadBody } from "./body.ts";
import { busy, type Claim, keepingClaim, withClaim } from "./claim.ts";
import { endUpload, noteBlob } from "./end.ts";
import { advanceUpload, deleteUploadRow, findUpload, insertUpload, type UploadSession } from "./queries.ts";

export type { UploadBody } from "./body.ts";
export type { UploadSession } from "./queries.ts";

type UploadApp = Pick<
  App,
  "config" | "db" | "clock" | "storage" | "uploadHashes" | "lookup" | "metrics" | "log" | "state"
>;

/**
 * A 202 is no 201: how far an upload got must survive a crash of ours, and power loss may take its last moments back, after
 * which the client goes on from where the session says.
 */
const PROGRESS = { durable: false } as const;

/**
 * State of a session that has no bytes yet. The store hears of it with the first ones, after the row is durable: whatever
 * a crash leaves in the store has a row by which it is found and swept.
 */
const NOT_STORED = "";

/**
 * Starts a session. `algorithm` is what the client says it will name the blob by; a PUT may still name another. `digest` is
 * given where the same request brings the bytes.
 */
export async function startUpload(
  app: UploadApp,
  caller: Caller,
  repository: RepositoryFacts,
  algorithm: DigestAlgorithm,
  digest?: Digest,
): Promise<UploadSession> {
  const { principal } = caller;
  if (!principal) throw new RegistryError("unauthorized", { detail: { decision: "anonymous" } });
  const quota = await findQuotaState(app.config, app.db, repository.id);
  await tellingOfQuota(app, async () => requireRoom(quota, 0));
  const { location } = app.storage.writable();
  const nowMs = app.clock.nowMs();
  const session: UploadSession = {
    id: crypto.randomUUID(),
    repositoryId: repository.id,
    accountId: principal.accountId,
    location,
    storageState: NOT_STORED,
    algorithm,
    offsetBytes: 0,
    digest: undefined,
    blobDigest: digest,
    expiresMs: nowMs + app.config.BLOBUPLOAD_DELETION_DATE_THRESHOLD * 60_000,
    writer: undefined,
    writerUntilMs: undefined,
  };
  const row = { ...session, principal: principalName(caller), createdMs: nowMs };
  await app.db.tx((tx) => insertUpload(tx, row), PROGRESS);
  return session;
}

/**
 * The caller's own session in this repository. Its grant is in the session: an expired token is good enough here, a
 * disabled account is not. Another principal's session, another repository's and none at all are all
 * `blob_upload_unknown`.
 */
export async function requireUpload(
  app: UploadApp,
  caller: Caller,
  path: string,
  uploadId: string,
): Promise<UploadSession> {
  if (!caller.principal) throw new RegistryError("unauthorized", { detail: { decision: "anonymous" } });
  const session = isUuid(uploadId) ? await findUpload(app.db, uploadId) : undefined;
  const repository = session && (await app.lookup.repository(path as RepositoryFacts["path"]));
  const isTheirs = session?.accountId === caller.principal.accountId && repository?.id === session.repositoryId;
  if (!session || !isTheirs || session.expiresMs <= app.clock.nowMs()) {
    throw new RegistryError("blob_upload_unknown", { detail: { uuid: uploadId.slice(0, 64) } });
  }
  if (repository.state !== "NORMAL" && repository.mirrorRobotId !== caller.principal.accountId) {
    throw new RegistryError("denied", {
      message: `Repository is in read only or mirror mode: ${repository.state}`,
      detail: { decision: "repository-state" },
    });
  }
  return session;
}

/**
 * Takes the next bytes of a session and gives it as it stands afterwards. Throws `range_invalid` (416) for a chunk that
 * does not begin where the stored bytes end, with the session as usable as before.
 */
export async function appendToUpload(app: UploadApp, session: UploadSession, body: UploadBody): Promise<UploadSession> {
  return withUpload(app, session, async (begun, claim) => {
    const { session: after, hasher } = await append(app, begun, body, { algorithm: session.algorithm, claim });
    if (claim && after.offsetBytes > begun.offsetBytes) claim.isGivenUp = true;
    if (hasher) app.uploadHashes.keep(after, hasher);
    return after;
  });
}

/**
 * Takes the last bytes (if any), checks the digest, makes the blob durable and links it to the repository. Throws
 * `digest_invalid` when the bytes are others; the session and its bytes are gone then, because they are nobody's blob.
 */
export async function finishUpload(
  app: UploadApp,
  session: UploadSession,
  digest: Digest,
  body: UploadBody = NO_BYTES,
): Promise<void> {
  return withUpload(app, session, async (begun, claim) => {
    const algorithm = digestAlgorithm(digest);
    // Goes on while the bytes come; they become the blob when it is done.
    const noted = noteBlob(app, begun, digest);
    noted.catch(() => undefined);
    const { session: full, hasher } = await append(app, begun, body, { algorithm, claim, lastKey: blobKey(digest) });
    const actual = hasher?.digest() ?? recordedDigest(full, algorithm) ?? (await rehash(app, full, algorithm)).digest();
    if (actual !== digest) {
      await dropUpload(app, full, claim);
      throw new RegistryError("digest_invalid", {
        message: `the uploaded bytes have the digest "${actual}", not "${digest}"`,
        detail: { digest, actual },
      });
    }
    if (!(await noted)) throw new RegistryError("blob_upload_unknown", { detail: { uuid: session.id } });
    await store(app, full, digest, claim);
  });
}

/** Ends a session and drops its bytes. */
export async function cancelUpload(app: UploadApp, session: UploadSession): Promise<void> {
  return withUpload(app, session, (begun, claim) => dropUpload(app, begun, claim));
}

/** Ends a session after a failure, which is what the caller hears of and not of this. What is left is swept later. */
export async function abandonUpload(app: UploadApp, session: UploadSession): Promise<void> {
  try {
    const left = await findUpload(app.db, session.id);
    if (left) await cancelUpload(app, left);
  } catch (error) {
    app.log.warn("cannot drop an upload that failed; it is swept later", errorFields(error));
  }
}

interface AppendOptions {
  readonly algorithm: DigestAlgorithm;
  readonly claim: Claim | undefined;
  /** Where the blob goes when these are the last bytes: the session's row then stays as it is, for the blob's replaces it. */
  readonly lastKey?: string;
}

/**
 * Takes the bytes of one request. Whoever has the hash of what came before goes on with it. Who has not, because that went
 * through another instance, leaves it to the request that ends the upload: so that the stored part is read back once and
 * not for each chunk.
 */
async function append(
  app: UploadApp,
  session: UploadSession,
  body: UploadBody,
  { algorithm, claim, lastKey }: AppendOptions,
): Promise<{ session: UploadSession; hasher: Hasher | undefined }> {
  requireRange(session, body);
  const kept = app.uploadHashes.take(session, algorithm);
  if (!body.stream) return { session, hasher: kept };

  const driver = app.storage.driver(session.location);
  const hasher = kept ?? (lastKey === undefined ? undefined : await rehash(app, session, algorithm));
  const limitBytes = sizeBytes(app.config.MAXIMUM_LAYER_SIZE);
  const quota = await findQuotaState(app.config, app.db, session.repositoryId);
  const stopTimer = app.metrics.chunkUploadDuration.startTimer({ region: session.location });
  const state = await storedState(app, session);
  const writer = await driver.openUpload(session.id, state, session.offsetBytes, lastKey);
  let received = 0;
  try {
    for await (const chunk of body.stream) {
      received += chunk.length;
      if (session.offsetBytes + received > limitBytes) throw tooLarge(session.offsetBytes + received, limitBytes);
      requireRoom(quota, session.offsetBytes + Math.max(received, body.lengthBytes ?? 0));
      if (claim?.isDue()) await claim.renew();
      // The write runs on while the hash is computed; it waits only when too much is in flight.
      const written = writer.write(chunk);
      hasher?.update(chunk);
      if (written) await written;
      release(chunk);
    }
    requireLength(session, body, received);
    const storageState = await writer.flush();
    const next = { offsetBytes: session.offsetBytes + received, storageState, algorithm, digest: hasher?.digest() };
    if (lastKey === undefined && received > 0) await advance(app, session, next, claim);
    app.metrics.pushedBytes.inc(received);
    stopTimer();
    return { session: { ...session, ...next }, hasher };
  } catch (error) {
    await writer
      .abort()
      .catch((cause: unknown) => app.log.warn("cannot undo a broken chunk", { error: String(cause) }));
    throw isHangUp(error) ? cutOff(received, error) : error;
  }
}

async function advance(
  app: UploadApp,
  session: UploadSession,
  next: Parameters<typeof advanceUpload>[2],
  claim: Claim | undefined,
): Promise<void> {
  if (await app.db.tx((tx) => advanceUpload(tx, session, next, claim?.id), PROGRESS)) return;
  const now = await findUpload(app.db, session.id);
  if (!now) throw new RegistryError("blob_upload_unknown", { detail: { uuid: session.id } });
  throw new RegistryError("range_invalid", {
    message: "another request of this upload was faster",
    headers: { Range: formatUploadRange(now.offsetBytes) },
  });
}

/** What the last request that moved the session on knew of its bytes, whichever instance it went to. */
function recordedDigest({ digest }: UploadSession, algorithm: DigestAlgorithm): Digest | undefined {
  return digest && digestAlgorithm(digest) === algorithm ? digest : undefined;
}

/** The driver's state of a session, which is begun in the store when it has no bytes yet. */
async function storedState(app: UploadApp, session: UploadSession): Promise<string> {
  if (session.storageState !== NOT_STORED) return session.storageState;
  const driver = app.storage.driver(session.location);
  // A request that died before its first bytes were acknowledged may have begun it already, in the same place.
  if (!driver.fencesWriters) await driver.deleteUpload(session.id, NOT_STORED);
  return driver.createUpload(session.id);
}

async function rehash(app: UploadApp, session: UploadSession, algorithm: DigestAlgorithm): Promise<Hasher> {
  const hasher = createHasher(algorithm);
  if (session.offsetBytes === 0) return hasher;
  const driver = app.storage.driver(session.location);
  const stored = await driver.readUpload(session.id, session.storageState, session.offsetBytes);
  for await (const chunk of stored) hasher.update(chunk);
  return hasher;
}

async function store(app: UploadApp, session: UploadSession, digest: Digest, claim: Claim | undefined): Promise<void> {
  const { location } = session;
  const driver = app.storage.driver(location);
  const key = blobKey(digest);
  let reservedMs = await reserveBlob(app.db, digest);
  let wasStored = false;
  // Bytes the store has already are not written again; they were durable before their row was.
  await keepingClaim(claim, async () => {
    wasStored = await isStored(app, location, digest);
    if (wasStored) await driver.deleteUpload(session.id, session.storageState);
    else await driver.commitUpload(session.id, await storedState(app, session), key, session.offsetBytes);
  });
  const isLate = () => performance.now() - reservedMs > RELIABLE_MS;
  if (isLate()) reservedMs = await requireStill(app, session, digest);
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    // First: what was committed under a claim that is lost may be what another request wrote.
    if (!(await deleteUploadRow(tx, session.id, claim?.id)) && claim) throw busy(session.offsetBytes);
    const blobId = await putBlob(tx, { digest, sizeBytes: session.offsetBytes, location, wasStored, nowMs });
    if (isLate()) throw beingDeleted(digest);
    await queueReplication(tx, app, blobId, location);
    await linkBlob(app.config, tx, {
      repositoryId: session.repositoryId,
      blobId,
      digest,
      leaseUntilMs: nowMs + app.config.PUSH_TEMP_TAG_EXPIRATION_SEC * 1000,
      nowMs,
    });
  });
  if (claim) claim.isGivenUp = true;
  app.uploadHashes.drop(session.id);
}

/** A store may take its time to put a large blob together: meanwhile others may have pushed, deleted and collected it. */
async function requireStill(app: UploadApp, session: UploadSession, digest: Digest): Promise<number> {
  const reservedMs = await reserveBlob(app.db, digest);
  const found = await app.storage.driver(session.location).find(blobKey(digest));
  if (found?.sizeBytes !== session.offsetBytes) throw beingDeleted(digest);
  return reservedMs;
}

/**
 * The row and the object are both there, and nobody has found the bytes to be bad. The cheaper question comes first, because
 * most blobs are new.
 */
async function isStored(app: UploadApp, location: string, digest: Digest): Promise<boolean> {
  const driver = app.storage.driver(location);
  const key = blobKey(digest);
  if (driver.isLocal && !(await driver.find(key))) return false;
  const known = await findBlobAnywhere(app.db, digest);
  if (!known?.locations.includes(location)) return false;
  return driver.isLocal || (await driver.find(key)) !== undefined;
}

async function dropUpload(app: UploadApp, session: UploadSession, claim: Claim | undefined): Promise<void> {
  app.uploadHashes.drop(session.id);
  await endUpload(app, session, claim?.id);
  if (claim) claim.isGivenUp = true;
}

/** Two requests of one session cannot both append: the second is told to look where the first one got to. */
function withUpload<T>(
  app: UploadApp,
  session: UploadSession,
  work: (session: UploadSession, claim: Claim | undefined) => Promise<T>,
): Promise<T> {
  return tellingOfQuota(app, () =>
    app.uploadHashes.exclusive(
      session.id,
      () => withClaim(app, session, work),
      () => {
        throw busy(session.offsetBytes);
      },
    ),
  );
}

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(text);
}
