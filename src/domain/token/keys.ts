/**
 * The keys that sign registry tokens: made at first start, shared by all instances through the database, replaced every
 * day. A replaced key goes on verifying until every token it signed is over.
 */

import { calculateJwkThumbprint, errors, exportJWK, generateKeyPair, importJWK } from "jose";
import type { Database, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type Clock, isRecent } from "../../lib/clock.ts";
import type { SecretBox } from "../../lib/secret-box.ts";

/** ES256: a signature costs a tenth of RS256's and clients pass tokens on without reading them. */
export const TOKEN_ALGORITHM = "ES256";
const ROTATE_AFTER_MS = 24 * 3600 * 1000;
/** A key verifies for this long after its last signature: longer than any token lives. */
const VERIFY_AFTER_ROTATION_MS = 24 * 3600 * 1000;
/** What a change to these keys by somebody else is called in `tx.changed`: a superuser deleted one. */
export const TOKEN_KEYS = "token-keys";
/** And what a new one is called: tokens that it signs are shown to the other instances at once. */
const TOKEN_KEY_MADE = "token-key-made";
/** How often an unknown key id may send us to the database: forged tokens must not cost a query each. */
const RELOAD_PAUSE_MS = 1000;
const KEYS_MAX = 20;

type Key = Awaited<ReturnType<typeof importJWK>>;

interface SigningKey {
  readonly kid: string;
  readonly privateKey: Key;
  readonly rotateMs: number;
}

export interface TokenKeysOptions {
  db: Database;
  secrets: SecretBox;
  clock: Clock;
  /** INSTANCE_SERVICE_KEY_SERVICE: issuer of the tokens and name under which the keys are kept. */
  service: string;
  onRenewal?: (success: boolean) => void;
}

export class TokenKeys {
  readonly #options: TokenKeysOptions;
  #verifying: ReadonlyMap<string, { key: Key; expiresMs: number }> = new Map();
  #signing: SigningKey | undefined;
  #reloadedMs = 0;
  #reloading: Promise<void> | undefined;
  #generation = 0;

  constructor(options: TokenKeysOptions) {
    this.#options = options;
    options.db.onChanged((keys) => {
      if (keys === undefined || keys.includes(TOKEN_KEYS)) this.#forget();
      else if (keys.includes(TOKEN_KEY_MADE)) this.#reloadedMs = 0;
    });
  }

  /** Goes up when keys were taken away: what was verified before is to be verified again. */
  get generation(): number {
    return this.#generation;
  }

  #forget(): void {
    this.#generation++;
    this.#verifying = new Map();
    this.#signing = undefined;
    this.#reloadedMs = 0;
  }

  get issuer(): string {
    return this.#options.service;
  }

  /**
   * Before keys are believed that are in memory: while changes of other instances go unheard, looks whether one of them was
   * taken away. Asks nothing while they are heard, nor of a database that is away and so has taken none.
   */
  async confirm(): Promise<void> {
    const { db, clock } = this.#options;
    if (db.hearsChanges || db.silentForMs !== undefined) return;
    try {
      const living = new Set((await this.#rows(clock.nowMs())).map(({ kid }) => kid));
      const kept = [...this.#verifying.keys(), ...(this.#signing ? [this.#signing.kid] : [])];
      if (kept.some((kid) => !living.has(kid))) this.#forget();
    } catch (error) {
      if (db.silentForMs === undefined) throw error;
    }
  }

  /** The key to sign with now; makes or fetches one when the present one is due for replacement. */
  async signingKey(): Promise<SigningKey> {
    await this.confirm();
    const nowMs = this.#options.clock.nowMs();
    if (this.#signing && this.#signing.rotateMs > nowMs) return this.#signing;
    const generation = this.#generation;
    try {
      const signing = await this.#options.db.tx((tx) => this.#findOrMake(tx, nowMs));
      // The first tokens of a new key must not meet the pause that an unknown one has just begun.
      if (!this.#verifying.has(signing.kid)) await this.#reload(nowMs);
      if (generation === this.#generation) this.#signing = signing;
      this.#options.onRenewal?.(true);
      return signing;
    } catch (error) {
      this.#options.onRenewal?.(false);
      // A key past its day still verifies everywhere: better an old signature than none while the database is away.
      if (this.#signing) return this.#signing;
      throw error;
    }
  }

  /** The public key of a token's `kid`, undefined when it is none of ours or over. */
  async verifyingKey(kid: string): Promise<Key | undefined> {
    await this.confirm();
    const nowMs = this.#options.clock.nowMs();
    if (!this.#verifying.has(kid)) await this.#reloadOnce(nowMs);
    const found = this.#verifying.get(kid);
    return found && found.expiresMs > nowMs ? found.key : undefined;
  }

  /** The public key for the header of a JWT, as jose asks for it. Throws a JOSEError when it is none of ours. */
  async keyOf(header: { kid?: string }): Promise<Key> {
    const key = header.kid === undefined ? undefined : await this.verifyingKey(header.kid);
    if (!key) throw new errors.JOSEError("signed with a key that is not ours");
    return key;
  }

  /** Looks again, unless somebody just has; who comes while somebody looks waits for what is found. */
  async #reloadOnce(nowMs: number): Promise<void> {
    const { hearsChanges } = this.#options.db;
    // Who hears of no new key looks each time.
    if (!this.#reloading && isRecent(this.#reloadedMs, nowMs, RELOAD_PAUSE_MS) && hearsChanges) return;
    this.#reloading ??= this.#reload(nowMs).finally(() => {
      this.#reloading = undefined;
    });
    await this.#reloading;
  }

  async #reload(nowMs: number): Promise<void> {
    const generation = this.#generation;
    const found = new Map<string, { key: Key; expiresMs: number }>();
    for (const row of await this.#rows(nowMs)) {
      const key = await importJWK(JSON.parse(row.public_jwk), TOKEN_ALGORITHM);
      found.set(row.kid, { key, expiresMs: toNumber(row.expires_ms) });
    }
    // What was taken away while it was being read must not come back.
    if (generation !== this.#generation) return this.#reload(nowMs);
    // At once: in between, a key that is known would be none of ours.
    this.#verifying = found;
    this.#reloadedMs = nowMs;
  }

  #rows(nowMs: number) {
    return this.#options.db.sql<{ kid: string; public_jwk: string; expires_ms: number }>`/* token.keys */
      select kid, public_jwk, expires_ms from service_key
      where service = ${this.#options.service} and expires_ms > ${nowMs} and private_encrypted is not null
      order by created_ms desc limit ${KEYS_MAX}`;
  }

  async #findOrMake(tx: Tx, nowMs: number): Promise<SigningKey> {
    const found = await this.#findSigning(tx, nowMs);
    if (found) return found;
    // Instances that start together take turns: the second finds what the first one made.
    await tx.sql`/* token.lock */
      insert into setting (key, value) values ('token_key', 'made') on conflict (key) do update set value = excluded.value`;
    return (await this.#findSigning(tx, nowMs)) ?? this.#make(tx, nowMs);
  }

  async #findSigning(tx: Tx, nowMs: number): Promise<SigningKey | undefined> {
    const { secrets, service } = this.#options;
    const [row] = await tx.sql<{ kid: string; private_encrypted: string; rotate_ms: number }>`/* token.signing_key */
      select kid, private_encrypted, rotate_ms from service_key
      where service = ${service} and rotate_ms > ${nowMs} and private_encrypted is not null
      order by created_ms desc, kid limit 1`;
    if (!row) return undefined;
    const privateKey = await importJWK(JSON.parse(secrets.open(row.private_encrypted)), TOKEN_ALGORITHM);
    return { kid: row.kid, privateKey, rotateMs: toNumber(row.rotate_ms) };
  }

  async #make(tx: Tx, nowMs: number): Promise<SigningKey> {
    const { secrets, service } = this.#options;
    const pair = await generateKeyPair(TOKEN_ALGORITHM, { extractable: true });
    const publicJwk = await exportJWK(pair.publicKey);
    const kid = await calculateJwkThumbprint(publicJwk);
    const rotateMs = nowMs + ROTATE_AFTER_MS;
    tx.changed(TOKEN_KEY_MADE);
    await tx.sql`/* token.drop_old_keys */
      delete from service_key
      where service = ${service} and expires_ms <= ${nowMs} and private_encrypted is not null`;
    await tx.sql`/* token.insert_key */
      insert into service_key (kid, service, name, public_jwk, private_encrypted, created_ms, rotate_ms, expires_ms,
                               approval_type, approved_ms)
      values (${kid}, ${service}, 'registry tokens', ${JSON.stringify({ ...publicJwk, kid, alg: TOKEN_ALGORITHM })},
              ${secrets.seal(JSON.stringify(await exportJWK(pair.privateKey)))}, ${nowMs}, ${rotateMs},
              ${rotateMs + VERIFY_AFTER_ROTATION_MS}, 'ServiceKeyApprovalType.AUTOMATIC', ${nowMs})`;
    return { kid, privateKey: pair.privateKey, rotateMs };
  }
}
