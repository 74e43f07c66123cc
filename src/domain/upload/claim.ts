/**
 * Who may write into an upload when several processes share a store in which two of them could write into one file. The
 * claim is in the session's row and goes by the database's clock; it is renewed while bytes flow, and ends by itself when its
 * process dies or its client falls silent. Stores that give each writer a place of its own need none of this.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { formatUploadRange } from "../../oci/range.ts";
import { claimUpload, findUpload, releaseUpload, renewClaim, type UploadSession } from "./queries.ts";

type ClaimApp = Pick<App, "db" | "storage" | "state" | "log">;

/**
 * How long a claim outlives its last renewal, and so how long a client waits that goes on elsewhere after its server died.
 * Nothing is lost where a writer is only slow for as long: `moveAway`.
 */
const CLAIM_MS = 5000;
const RENEW_MS = 1500;
/** Between two looks whether a claim in the way is alive. */
const LOOK_MS = 250;
/** Between two tries to give up a claim while the database is away. */
const RELEASE_PAUSE_MS = 500;

/** A request's right to write into an upload. */
export interface Claim {
  /** Names it in the row: only its holder may end the session. */
  readonly id: string;
  /** True when bytes may only be written after `renew`. */
  isDue(): boolean;
  /** Throws `range_invalid` when another request has the upload now. */
  renew(): Promise<void>;
  /** Set by whoever gave it up in a transaction of its own. */
  isGivenUp: boolean;
}

/**
 * Runs `work` while no other process writes into the upload; without a claim where there is no need for one. Throws
 * `range_invalid` when another request has it or has moved it on, and `blob_upload_unknown` when the session is over.
 */
export async function withClaim<T>(
  app: ClaimApp,
  session: UploadSession,
  work: (session: UploadSession, claim: Claim | undefined) => Promise<T>,
): Promise<T> {
  const driver = app.storage.driver(session.location);
  const mayBeShared = app.db.engine === "postgres" || app.state.hasSiblings === true;
  if (driver.fencesWriters || !mayBeShared) return work(session, undefined);
  const id = crypto.randomUUID();
  const begun = await take(app, session, id);
  let renewedMs = performance.now();
  const claim: Claim = {
    id,
    isGivenUp: false,
    isDue: () => performance.now() - renewedMs > RENEW_MS,
    async renew() {
      const askedMs = performance.now();
      if (!(await renewClaim(app.db, session.id, id, CLAIM_MS))) throw busy(session.offsetBytes);
      renewedMs = askedMs;
    },
  };
  try {
    return await work(begun.writer === undefined ? begun : await moveAway(app, begun), claim);
  } finally {
    // Most often the last transaction has done it; here it is given up after a failure.
    if (!claim.isGivenUp) await giveUp(app, session.id, id);
  }
}

/**
 * Lets the upload go. A database that is away is told when it is back, so that the client need not wait for the claim's end;
 * the caller waits for the first try alone.
 */
async function giveUp(
  app: ClaimApp,
  sessionId: string,
  id: string,
  untilMs = performance.now() + CLAIM_MS,
): Promise<void> {
  try {
    await releaseUpload(app.db, sessionId, id);
  } catch (error) {
    if (performance.now() < untilMs) {
      setTimeout(() => void giveUp(app, sessionId, id, untilMs), RELEASE_PAUSE_MS).unref();
    } else {
      app.log.warn("cannot give up an upload that failed; it stayed taken for some seconds", errorFields(error));
    }
  }
}

/** Runs what may take long without any bytes coming, such as making a large blob durable, and keeps the claim alive. */
export async function keepingClaim<T>(claim: Claim | undefined, work: () => Promise<T>): Promise<T> {
  if (!claim) return work();
  await claim.renew();
  // One that is lost meanwhile shows in the last transaction, which asks for it.
  const timer = setInterval(() => claim.renew().catch(() => undefined), RENEW_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}

export function busy(offsetBytes: number): RegistryError {
  return new RegistryError("range_invalid", {
    message: "another request of this upload is under way",
    headers: { Range: formatUploadRange(offsetBytes) },
  });
}

/** Claims the session and gives it as it stood then. A claim in the way that nobody renews is waited for. */
async function take(app: ClaimApp, asked: UploadSession, claimId: string): Promise<UploadSession> {
  let session = asked;
  while (!(await claimUpload(app.db, session, claimId, CLAIM_MS))) {
    const now = await findUpload(app.db, session.id);
    if (!now) throw new RegistryError("blob_upload_unknown", { detail: { uuid: session.id } });
    if (now.offsetBytes !== asked.offsetBytes || app.state.draining) throw busy(now.offsetBytes);
    // Seen first here: only from now on can it be told whether it is renewed.
    const isAlive = session.writer !== undefined && now.writer !== undefined && !isSameClaim(now, session);
    if (isAlive) throw busy(now.offsetBytes);
    session = now;
    if (now.writer !== undefined) await Bun.sleep(LOOK_MS);
  }
  return session;
}

function isSameClaim(a: UploadSession, b: UploadSession): boolean {
  return a.writer === b.writer && a.writerUntilMs === b.writerUntilMs;
}

/**
 * The one who had it before may only be slow: it still holds the file. What it wrote so far goes into another file, and what
 * it may yet write into nowhere.
 */
async function moveAway(app: ClaimApp, session: UploadSession): Promise<UploadSession> {
  // Without bytes the store is told of the upload anew anyhow.
  if (session.offsetBytes === 0) return session;
  const driver = app.storage.driver(session.location);
  const stored = await driver.readUpload(session.id, session.storageState, session.offsetBytes);
  await driver.deleteUpload(session.id, session.storageState);
  const writer = await driver.openUpload(session.id, await driver.createUpload(session.id), 0);
  try {
    for await (const chunk of stored) await writer.write(chunk);
    return { ...session, storageState: await writer.flush() };
  } catch (error) {
    await writer.abort();
    throw error;
  }
}
