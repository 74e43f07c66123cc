/**
 * The registry that the access matrix asks: one database, served twice (FEATURE_SUPERUSERS_FULL_ACCESS off and on), with
 * an account of every kind, and fresh targets for requests that would change something.
 */
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { type BootedApp, boot } from "../../src/boot.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ANONYMOUS, type Caller } from "../../src/domain/access/actor.ts";
import { findNamespaceFacts, findRepositoryFacts, type RepositoryFacts } from "../../src/domain/access/facts.ts";
import { findBlobAnywhere, linkBlob } from "../../src/domain/blob/queries.ts";
import { putManifest } from "../../src/domain/manifest/put-manifest.ts";
import { createRepository, setAccountRole, setState } from "../../src/domain/repository/repository.ts";
import { createRobot } from "../../src/domain/robot/robot.ts";
import { finishUpload, startUpload } from "../../src/domain/upload/upload.ts";
import { createUser, findAccount, setEnabled, toPrincipal } from "../../src/domain/user/account.ts";
import { createHttp, type Listener, listen } from "../../src/http/server.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { parseRepositoryPath, type RepositoryPath } from "../../src/oci/names.ts";
import { parseTag } from "../../src/oci/reference.ts";
import { chosenEngines } from "../support/database.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { quickHash } from "../support/quick-hash.ts";
import { basicAuthorization, digestOf, mediaTypes, toBytes } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import type { CallerCase, RepositoryCase, Way } from "./access-matrix.ts";

const USERS = [
  "owner",
  "stranger",
  "reader",
  "writer",
  "roleadmin",
  "superuser",
  "auditor",
  "restricted",
  "disabled",
] as const;
const ROBOTS = ["none", "read", "write"] as const;
const PASSWORD = "access-matrix-password";
const ORIGIN = { ip: undefined, userAgent: undefined };
const FACTS = { tagExpirationSeconds: 1_209_600, nowMs: 1 };

/** Which account is behind a caller; undefined: nobody. Token callers are all the owner's. */
const ACCOUNTS: Record<CallerCase, string | undefined> = {
  anonymous: undefined,
  "anonymous token": undefined,
  stranger: "stranger",
  reader: "reader",
  writer: "writer",
  admin: "roleadmin",
  owner: "owner",
  "robot without role": "owner+none",
  "robot with read": "owner+read",
  "robot with write": "owner+write",
  superuser: "superuser",
  "superuser with full access": "superuser",
  "global read-only superuser": "auditor",
  "restricted user in own namespace": "restricted",
  "disabled user": "disabled",
  "expired token": "owner",
  "token of a foreign key": "owner",
  "token of a foreign key under our key id": "owner",
  "token for another repository": "owner",
  "token for pull alone": "owner",
};

/** How each caller can come. */
export function waysOf(caller: CallerCase): readonly Way[] {
  if (caller === "anonymous") return ["none"];
  return caller.includes("token") ? ["Bearer"] : ["Basic", "Bearer"];
}

interface Served {
  readonly app: BootedApp;
  readonly listener: Listener;
  fetch(request: Request): Promise<Response>;
}

export class AccessWorld {
  readonly #plain: Served;
  readonly #full: Served;
  readonly #secrets: ReadonlyMap<string, string>;
  readonly #foreignKey: CryptoKey;
  readonly #remove: () => void;
  #count = 0;

  /** Content of the blob, tag and manifest that are in every repository that exists. */
  static readonly blob = toBytes("the bytes of the access matrix");
  static readonly manifest = toBytes({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] });
  static readonly tag = "there";

  private constructor(
    plain: Served,
    full: Served,
    secrets: ReadonlyMap<string, string>,
    foreignKey: CryptoKey,
    remove: () => void,
  ) {
    this.#plain = plain;
    this.#full = full;
    this.#secrets = secrets;
    this.#foreignKey = foreignKey;
    this.#remove = remove;
  }

  static async open(): Promise<AccessWorld> {
    const dir = makeTempDir("access");
    const database = chosenEngines()[0] === "postgres" ? { DB_URI: await createTestDatabase() } : {};
    const serve = async (FEATURE_SUPERUSERS_FULL_ACCESS: boolean): Promise<Served> => {
      const config = {
        ...database,
        FEATURE_SUPERUSERS_FULL_ACCESS,
        SUPER_USERS: ["superuser"],
        GLOBAL_READONLY_SUPER_USERS: ["auditor"],
        FEATURE_RESTRICTED_USERS: true,
        RESTRICTED_USERS_WHITELIST: USERS.filter((name) => name !== "restricted"),
        LOGGING_LEVEL: "ERROR",
      };
      const env = { QUAY_OVERRIDE_CONFIG: JSON.stringify(config) };
      const app = await boot(loadConfig({ dataDir: dir.path, env }));
      const http = createHttp(app);
      const fetchHere = async (request: Request) => http.fetch(request, { clientIp: undefined });
      const listener = listen(fetchHere, { hostname: "127.0.0.1", port: 0, ipv6Only: false, tls: undefined });
      return { app, listener, fetch: fetchHere };
    };
    const plain = await serve(false);
    const secrets = await makeAccounts(plain.app);
    for (const namespace of ["owner", "restricted"]) await makeRepositories(plain.app, namespace);
    await plain.app.db.tx(async (tx) => {
      const disabled = await findAccount(tx, "disabled");
      await setEnabled(tx, disabled?.id ?? 0, false);
    });
    const { privateKey } = await generateKeyPair("ES256", { extractable: true });
    return new AccessWorld(plain, await serve(true), secrets, privateKey, () => dir.remove());
  }

  async close(): Promise<void> {
    for (const served of [this.#plain, this.#full]) {
      await served.listener.cut();
      await served.app.close();
    }
    this.#remove();
  }

  /** A path for the repository: one that exists, or one that no request has named before. */
  repositoryFor(caller: CallerCase, repository: RepositoryCase): string {
    const namespace = caller === "restricted user in own namespace" ? "restricted" : "owner";
    this.#count++;
    if (repository === "absent") return `${namespace}/absent-${this.#count}`;
    if (repository === "absent namespace") return `nowhere-${this.#count}/app`;
    return `${namespace}/${repository === "READ_ONLY public" ? "frozen" : repository}`;
  }

  /** Sends a request to the instance that has the caller's config; `overWire` through a socket. */
  async send(
    caller: CallerCase,
    path: string,
    init: { method: string; headers: Record<string, string>; body?: Uint8Array | undefined },
    overWire = false,
  ): Promise<Response> {
    const served = this.#servedFor(caller);
    const options = {
      method: init.method,
      headers: init.headers,
      ...(init.body === undefined ? {} : { body: new Uint8Array(init.body) }),
    };
    // One name for both, so that challenges can be compared.
    if (!overWire) return served.fetch(new Request(`${served.listener.url}${path}`, options));
    return fetch(`${served.listener.url}${path}`, options);
  }

  /** The Authorization header with which the caller comes. Bearer tokens are asked of /v2/auth for this repository. */
  async authorization(caller: CallerCase, way: Way, repository: string): Promise<string | undefined> {
    if (way === "none") return undefined;
    const username = ACCOUNTS[caller];
    if (way === "Basic") return this.basic(caller);
    if (caller === "token of a foreign key" || caller === "token of a foreign key under our key id") {
      return `Bearer ${await this.#forge(caller, repository)}`;
    }
    if (caller === "expired token") return `Bearer ${await this.#sign(repository, -7200)}`;
    if (caller === "disabled user") return `Bearer ${await this.#sign(repository, 0, "disabled")}`;
    const actions = caller === "token for pull alone" ? "pull" : "pull,push,delete";
    const name = caller === "token for another repository" ? "owner/another" : repository;
    const response = await this.send(caller, `/v2/auth?scope=repository:${name}:${actions}`, {
      method: "GET",
      headers: username === undefined ? {} : { authorization: this.basic(caller) },
    });
    return `Bearer ${((await response.json()) as { token: string }).token}`;
  }

  basic(caller: CallerCase): string {
    const { username, password } = this.credentials(caller);
    return basicAuthorization(username, password);
  }

  /** Name and secret of the account behind the caller. */
  credentials(caller: CallerCase): { username: string; password: string } {
    const username = ACCOUNTS[caller] ?? "";
    return { username, password: this.#secrets.get(username) ?? PASSWORD };
  }

  /** A manifest that only this request will delete; its digest. Undefined where there is no repository. */
  async freshManifest(path: string): Promise<string | undefined> {
    const { app } = this.#plain;
    const repository = await findRepositoryFacts(app.db, path as RepositoryPath);
    if (!repository) return undefined;
    const annotations = { number: String(this.#count++) };
    const content = toBytes({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [], annotations });
    const digest = digestOf(content);
    await putManifest(app, ANONYMOUS, {
      repository,
      reference: { kind: "digest", digest: parseDigest(digest) },
      tags: [],
      contentType: mediaTypes.index,
      content,
      request: ORIGIN,
    });
    return digest;
  }

  /** Shows the blob in the repository again, if a request before deleted it. */
  async restoreBlob(path: string): Promise<void> {
    const { db } = this.#plain.app;
    const digest = parseDigest(digestOf(AccessWorld.blob));
    const repository = await findRepositoryFacts(db, path as RepositoryPath);
    const blob = await findBlobAnywhere(db, digest);
    if (!repository || !blob) return;
    const link = { repositoryId: repository.id, blobId: blob.id, digest, leaseUntilMs: 2 ** 42, nowMs: 1 };
    await db.tx((tx) => linkBlob(this.#plain.app.config, tx, link));
  }

  /**
   * An upload session of the caller's account, or of another one, as it was started while the account still might; its
   * id. Undefined where there is no repository or no such account.
   */
  async session(caller: CallerCase, whose: "own" | "another's", path: string): Promise<string | undefined> {
    const { app } = this.#plain;
    const own = ACCOUNTS[caller];
    const username = whose === "own" ? own : own === "writer" ? "owner" : "writer";
    const repository = await findRepositoryFacts(app.db, path as RepositoryPath);
    if (!repository || username === undefined) return undefined;
    const session = await startUpload(app, await callerFor(app, username), repository, "sha256");
    return session.id;
  }

  /** Everything a request could change, as counts: a refused one must leave it as it was. */
  async fingerprint(): Promise<string> {
    const rows = await this.#plain.app.db.sql`/* access.fingerprint */
      select (select count(*) from account) as accounts, (select count(*) from repository) as repositories,
        (select count(*) from manifest where deleted_ms is null) as manifests,
        (select count(*) from tag where end_ms is null) as tags,
        (select count(*) from repository_blob where deleted_ms is null) as blobs,
        (select count(*) from upload_session) as sessions,
        (select coalesce(sum(offset_bytes), 0) from upload_session) as uploaded`;
    return JSON.stringify(rows);
  }

  #servedFor(caller: CallerCase): Served {
    return caller === "superuser with full access" ? this.#full : this.#plain;
  }

  async #forge(caller: CallerCase, repository: string): Promise<string> {
    const { kid } = await this.#plain.app.tokenKeys.signingKey();
    const isOurs = caller === "token of a foreign key under our key id";
    const signer = { kid: isOurs ? kid : "a-foreign-key", privateKey: this.#foreignKey };
    return this.#sign(repository, 0, "owner", signer);
  }

  /** A token with every claim as the token service writes it, issued `offsetSeconds` from now. */
  async #sign(repository: string, offsetSeconds: number, username = "owner", signer?: Signer): Promise<string> {
    const { app } = this.#plain;
    const { kid, privateKey } = signer ?? (await app.tokenKeys.signingKey());
    const account = await findAccount(app.db, username);
    const issued = Math.floor(Date.now() / 1000) + offsetSeconds;
    const access = [{ type: "repository", name: repository, actions: ["pull", "push", "delete"] }];
    const key = privateKey instanceof CryptoKey ? await exportJWK(privateKey) : privateKey;
    return new SignJWT({ access, account_id: account?.id ?? null })
      .setProtectedHeader({ alg: "ES256", typ: "JWT", kid })
      .setIssuer(app.tokenKeys.issuer)
      .setAudience(app.config.SERVER_HOSTNAME ?? "berth")
      .setSubject(username)
      .setNotBefore(issued)
      .setIssuedAt(issued)
      .setExpirationTime(issued + 3600)
      .sign(key);
  }
}

interface Signer {
  readonly kid: string;
  readonly privateKey: CryptoKey;
}

async function callerFor(app: BootedApp, username: string): Promise<Caller> {
  const account = await findAccount(app.db, username);
  // A disabled account had its session before it was disabled.
  const principal = account && toPrincipal(app.config, { ...account, enabled: true });
  if (!principal) throw new Error(`there is no account "${username}"`);
  return { principal, grants: undefined, expired: false, authKind: "basic" };
}

/** Gives the secrets that are not `PASSWORD`. */
async function makeAccounts(app: BootedApp): Promise<Map<string, string>> {
  const passwordHash = await quickHash(PASSWORD);
  const secrets = new Map<string, string>();
  await app.db.tx(async (tx) => {
    for (const username of USERS) await createUser(tx, { username, passwordHash }, FACTS);
    const owner = await findAccount(tx, "owner");
    if (!owner) throw new Error("the owner was not made");
    for (const name of ROBOTS) {
      const robot = await createRobot(app, tx, owner, name, FACTS);
      secrets.set(robot.username, robot.token);
    }
  });
  return secrets;
}

async function makeRepositories(app: BootedApp, namespace: string): Promise<void> {
  const owner = await callerFor(app, namespace);
  const visibilities = { public: "public", private: "private", frozen: "public" } as const;
  for (const [name, visibility] of Object.entries(visibilities)) {
    const parsed = parseRepositoryPath(`${namespace}/${name}`, { extended: true });
    const facts = await findNamespaceFacts(app.db, parsed.namespace, owner.principal);
    if (!facts) throw new Error(`there is no namespace "${namespace}"`);
    await createRepository(app, { parsed, namespace: facts, caller: owner, request: ORIGIN, visibility });
    const repository = await findRepositoryFacts(app.db, parsed.path);
    if (!repository) throw new Error(`"${parsed.path}" was not made`);
    await fill(app, owner, repository);
    await app.db.tx(async (tx) => {
      if (name === "frozen") await setState(tx, repository.id, "READ_ONLY");
      if (namespace !== "owner") return;
      const roles = {
        reader: "read",
        writer: "write",
        roleadmin: "admin",
        "owner+read": "read",
        "owner+write": "write",
      };
      for (const [username, role] of Object.entries(roles)) {
        const account = await findAccount(tx, username);
        const grant = { repositoryId: repository.id, accountId: account?.id ?? 0, role: role as "read" };
        await setAccountRole(tx, grant);
      }
    });
  }
}

async function fill(app: BootedApp, owner: Caller, repository: RepositoryFacts): Promise<void> {
  const session = await startUpload(app, owner, repository, "sha256");
  await finishUpload(app, session, parseDigest(digestOf(AccessWorld.blob)), {
    stream: new Blob([new Uint8Array(AccessWorld.blob)]).stream(),
    lengthBytes: AccessWorld.blob.length,
    range: undefined,
    signal: undefined,
  });
  await putManifest(app, owner, {
    repository,
    reference: { kind: "tag", tag: parseTag(AccessWorld.tag) },
    tags: [],
    contentType: mediaTypes.index,
    content: AccessWorld.manifest,
    request: ORIGIN,
  });
}
