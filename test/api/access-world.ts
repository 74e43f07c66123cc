/**
 * The registry that the API's access matrix asks: one database, served twice (FEATURE_SUPERUSERS_FULL_ACCESS off and on),
 * a caller of every kind, and fresh targets for requests that would take something away.
 */

import { type BootedApp, boot } from "../../src/boot.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { OauthScope } from "../../src/domain/access/actor.ts";
import { OAUTH_SCOPES } from "../../src/domain/access/actor.ts";
import { endSession, startSession } from "../../src/domain/session/session.ts";
import { createUser, findAccount, insertAccount, setEnabled } from "../../src/domain/user/account.ts";
import { csrfToken } from "../../src/http/auth/session.ts";
import { createHttp } from "../../src/http/server.ts";
import { chosenEngines } from "../support/database.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import type { CallerCase } from "./access-matrix.ts";

/** User behind each caller that is one. */
const USERS: Partial<Record<CallerCase, string>> = {
  stranger: "stranger",
  "organization member": "member",
  "organization creator": "creator",
  "organization admin": "boss",
  "repository reader": "reader",
  "repository writer": "writer",
  "repository admin": "repoadmin",
  "restricted user": "restricted",
  superuser: "root",
  "superuser with full access": "root",
  "global read-only superuser": "auditor",
  "disabled user": "disabled",
};
const NAMES = [...new Set(Object.values(USERS))];
const TEAMS: Record<string, { role: string; member: string }> = {
  owners: { role: "admin", member: "boss" },
  devs: { role: "member", member: "member" },
  makers: { role: "creator", member: "creator" },
};
const GRANTS: Record<string, string> = { reader: "read", writer: "write", repoadmin: "admin" };
const FOREVER_MS = 4_000_000_000_000;
const ORIGIN = { ip: undefined, userAgent: undefined };

interface Served {
  readonly app: BootedApp;
  fetch(request: Request): Promise<Response>;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export class ApiAccessWorld {
  readonly #plain: Served;
  readonly #full: Served;
  readonly #remove: () => void;
  readonly #headers = new Map<CallerCase, Record<string, string>>();
  #count = 0;

  private constructor(plain: Served, full: Served, remove: () => void) {
    this.#plain = plain;
    this.#full = full;
    this.#remove = remove;
  }

  static async open(): Promise<ApiAccessWorld> {
    const dir = makeTempDir("api-access");
    const database = chosenEngines()[0] === "postgres" ? { DB_URI: await createTestDatabase() } : {};
    const serve = async (FEATURE_SUPERUSERS_FULL_ACCESS: boolean): Promise<Served> => {
      const config = { ...database, ...CONFIG, FEATURE_SUPERUSERS_FULL_ACCESS };
      const app = await boot(loadConfig({ dataDir: dir.path, env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(config) } }));
      const http = createHttp(app);
      return { app, fetch: async (request) => http.fetch(request, { clientIp: undefined }) };
    };
    const plain = await serve(false);
    const world = new ApiAccessWorld(plain, await serve(true), () => dir.remove());
    await world.#populate();
    return world;
  }

  async close(): Promise<void> {
    await this.#plain.app.close();
    await this.#full.app.close();
    this.#remove();
  }

  /** The name that the request's throwaway targets carry. */
  next(): number {
    return ++this.#count;
  }

  async ask(caller: CallerCase, method: string, path: string, body: unknown): Promise<Answer> {
    const served = caller.startsWith("full access") || caller.endsWith("full access") ? this.#full : this.#plain;
    const headers = {
      ...this.#headers.get(caller),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    };
    const request = new Request(`http://berth.test/api/v1${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const response = await served.fetch(request);
    return { status: response.status, text: await response.text() };
  }

  /** An organization like the one that all rights are about, with its repositories. */
  async makeOrganization(name: string): Promise<void> {
    await this.#plain.app.db.tx(async (tx) => {
      const facts = { tagExpirationSeconds: 1_209_600, nowMs: 1 };
      const organizationId = await insertAccount(tx, { kind: "organization", username: name, ...facts });
      for (const [team, { role, member }] of Object.entries(TEAMS)) {
        const [row] = await tx.sql<{ id: number }>`insert into team (organization_id, name, role, created_ms)
          values (${organizationId}, ${team}, ${role}, 1) returning id`;
        const account = await findAccount(tx, member);
        await tx.sql`insert into team_member (team_id, account_id) values (${row?.id ?? 0}, ${account?.id ?? 0})`;
      }
      for (const visibility of ["private", "public"]) {
        const [row] = await tx.sql<{ id: number }>`insert into repository
            (namespace_id, name, path, visibility, created_ms)
          values (${organizationId}, ${visibility}, ${`${name}/${visibility}`}, ${visibility}, 1) returning id`;
        for (const [user, role] of Object.entries(GRANTS)) {
          const account = await findAccount(tx, user);
          await tx.sql`insert into repository_permission (repository_id, account_id, role)
            values (${row?.id ?? 0}, ${account?.id ?? 0}, ${role})`;
        }
      }
      tx.changed("everything");
    });
    this.#full.app.db.checkChanges();
  }

  /** A new user with a session or a token, for requests that end accounts and sessions. */
  async renew(caller: CallerCase): Promise<void> {
    const name = USERS[caller];
    if (name !== undefined) this.#headers.set(caller, await this.#session(name));
  }

  /** Makes the sessions' password checks old, or recent again. */
  async setFresh(isFresh: boolean): Promise<void> {
    const freshMs = isFresh ? Date.now() : 0;
    await this.#plain.app.db.tx(async (tx) => {
      await tx.sql`update session set fresh_ms = ${freshMs}`;
    });
  }

  async #populate(): Promise<void> {
    const { app } = this.#plain;
    for (const username of [...NAMES, "alice"]) {
      await app.db.tx((tx) =>
        createUser(
          tx,
          { username, passwordHash: PASSWORD_HASH, email: `${username}@example.com` },
          { tagExpirationSeconds: 1_209_600, nowMs: 1 },
        ),
      );
    }
    await this.makeOrganization("acme");
    for (const [caller, name] of Object.entries(USERS)) {
      this.#headers.set(caller as CallerCase, await this.#session(name));
    }
    const visitor = await this.#visitor();
    this.#headers.set("anonymous", visitor);
    const robot = async (name: string, owner: string) => {
      const account = await findAccount(app.db, owner);
      const token = app.secrets.seal("R".repeat(64));
      const robotFacts = { tagExpirationSeconds: 1_209_600, nowMs: 1 };
      const kind = "robot";
      await app.db.tx((tx) =>
        insertAccount(tx, { kind, username: name, ownerId: account?.id ?? 0, tokenEncrypted: token, ...robotFacts }),
      );
      return { ...visitor, Authorization: basicAuthorization(name, "R".repeat(64)) };
    };
    this.#headers.set("robot of the organization", await robot("acme+ci", "acme"));
    this.#headers.set("robot of a user", await robot("boss+ci", "boss"));
    const ended = await this.#session("boss");
    await app.db.tx((tx) => endSession(tx, ended.Cookie?.split("=")[1] ?? ""));
    this.#headers.set("session that was ended", ended);
    await this.#makeTokens();
    await app.db.tx(async (tx) => setEnabled(tx, (await findAccount(tx, "disabled"))?.id ?? 0, false));
  }

  async #makeTokens(): Promise<void> {
    const { app } = this.#plain;
    const bearer = async (owner: string, scopes: readonly OauthScope[], expiresMs = FOREVER_MS) => ({
      Authorization: `Bearer ${await makeToken(app, owner, scopes, expiresMs)}`,
    });
    for (const scope of OAUTH_SCOPES) {
      if (scope === "super:user") continue;
      this.#headers.set(`token ${scope}` as CallerCase, await bearer("boss", [scope]));
    }
    const others = OAUTH_SCOPES.filter((scope) => scope !== "super:user");
    this.#headers.set("token of every scope", await bearer("boss", OAUTH_SCOPES));
    this.#headers.set("superuser's token super:user", await bearer("root", ["super:user"]));
    this.#headers.set("superuser's token of every other scope", await bearer("root", others));
    this.#headers.set("full access superuser's token repo:admin", await bearer("root", ["repo:admin"]));
    this.#headers.set("expired token", await bearer("boss", OAUTH_SCOPES, 1));
    const revoked = await bearer("boss", OAUTH_SCOPES);
    const name = revoked.Authorization.slice("Bearer ".length, "Bearer ".length + 20);
    await app.db.tx(async (tx) => {
      await tx.sql`delete from oauth_token where token_name = ${name}`;
      tx.changed("everything");
    });
    this.#headers.set("revoked token", revoked);
    // A good app token logs in to /v2 as the password of `$app`; as a bearer of the API it is none.
    const appToken = "P".repeat(120);
    const boss = await findAccount(app.db, "boss");
    await app.db.tx(async (tx) => {
      await tx.sql`insert into app_token (uuid, account_id, title, token_name, token_encrypted, created_ms)
        values (${crypto.randomUUID()}, ${boss?.id ?? 0}, 'matrix', ${appToken.slice(0, 60)},
                ${app.secrets.seal(appToken)}, 1)`;
    });
    this.#headers.set("app token", { Authorization: `Bearer ${appToken}` });
  }

  async #session(username: string): Promise<Record<string, string>> {
    const { app } = this.#plain;
    const account = await findAccount(app.db, username);
    const input = { accountId: account?.id ?? 0, request: ORIGIN, nowMs: Date.now() };
    const token = await app.db.tx((tx) => startSession(app, tx, input));
    return { Cookie: `_csrf_token=${token}`, "X-CSRF-Token": csrfToken(app, token) };
  }

  async #visitor(): Promise<Record<string, string>> {
    const response = await this.#plain.fetch(new Request("http://berth.test/csrf_token"));
    const { csrf_token } = (await response.json()) as { csrf_token: string };
    return { Cookie: response.headers.get("set-cookie")?.split(";")[0] ?? "", "X-CSRF-Token": csrf_token };
  }

  /** A token of a user for an application of its own, with these scopes. */
  async makeToken(owner: string, scopes: readonly OauthScope[]): Promise<string> {
    return makeToken(this.#plain.app, owner, scopes, FOREVER_MS);
  }
}

/** Nobody logs in with a password here: it only has to be one. */
const PASSWORD_HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/** Every feature that brings routes is on. */
const CONFIG = {
  SECRET_KEY: "the access matrix's own secret key",
  SERVER_HOSTNAME: "berth.test",
  SUPER_USERS: ["root"],
  GLOBAL_READONLY_SUPER_USERS: ["auditor"],
  FEATURE_RESTRICTED_USERS: true,
  RESTRICTED_USERS_WHITELIST: [...NAMES.filter((name) => name !== "restricted"), "alice"],
  FEATURE_USER_CREATION: true,
  FEATURE_MAILING: true,
  MAIL_SERVER: "127.0.0.1",
  MAIL_PORT: 9,
  FEATURE_REPO_MIRROR: true,
  FEATURE_SIGNING: true,
  TUF_SERVER: "http://127.0.0.1:9",
  PERMANENTLY_DELETE_TAGS: true,
  FEATURE_AUTO_PRUNE: true,
  FEATURE_QUOTA_MANAGEMENT: true,
  FEATURE_IMMUTABLE_TAGS: true,
  FEATURE_SUPERUSER_CONFIGDUMP: true,
  FEATURE_PROGRAMMATIC_BOOTSTRAP: true,
  LOGGING_LEVEL: "ERROR",
};

async function makeToken(
  app: BootedApp,
  owner: string,
  scopes: readonly OauthScope[],
  expiresMs: number,
): Promise<string> {
  const token = crypto.randomUUID().replaceAll("-", "").toUpperCase().padEnd(40, "X");
  const hash = new Bun.CryptoHasher("sha256").update(token.slice(20)).digest("hex");
  await app.db.tx(async (tx) => {
    const account = await findAccount(tx, owner);
    const [application] = await tx.sql<{ id: number }>`
      insert into oauth_application (client_id, organization_id, name, created_ms)
      values (${token.slice(0, 20)}, ${account?.id ?? 0}, 'matrix', 1) returning id`;
    await tx.sql`insert into oauth_token
        (uuid, application_id, account_id, token_name, token_hash, scope, created_ms, expires_ms)
      values (${crypto.randomUUID()}, ${application?.id ?? 0}, ${account?.id ?? 0}, ${token.slice(0, 20)}, ${hash},
              ${scopes.join(" ")}, 1, ${expiresMs})`;
  });
  return token;
}
