/**
 * Tokens for a Swift account: TempAuth (v1), Keystone v2 and Keystone v3, each one request. A token is used until shortly
 * before it expires, or until Swift refuses it; whoever needs a new one meanwhile waits for the request that is under way.
 */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import { isPassingStatus, passingAnswer, type RemoteFetch, type RemoteRequest, readText } from "../remote/request.ts";
import { type RetryOptions, retrying } from "../remote/retry.ts";

export interface SwiftAccount {
  readonly authUrl: string;
  /** 1, 2 or 3. */
  readonly authVersion: number;
  readonly user: string;
  readonly password: string;
  /** Quay's `os_options`: the names that OpenStack's own client takes, with `tenant` or `project` in them alike. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** A token, and the URL of the account it is good for: without a slash at its end. */
export interface SwiftSession {
  readonly token: string;
  readonly storageUrl: string;
}

interface Granted extends SwiftSession {
  readonly renewAtMs: number;
}

/** Bounds of what a token's last moments are worth: a request may take a while after it was sent. */
const RENEW_BEFORE_MS = 5 * 60_000;
const RENEW_BEFORE_SHARE = 0.2;
/** Life of a token whose server does not tell: TempAuth's own default is a day. */
const UNKNOWN_LIFE_MS = 3_600_000;
/** A catalog of a large cloud, and more than any answer needs. */
const ANSWER_CHARS_MAX = 4 * 1024 * 1024;

export class SwiftAuth {
  readonly #account: SwiftAccount;
  readonly #fetch: RemoteFetch;
  readonly #clock: Clock;
  readonly #retry: RetryOptions;
  #granted: Granted | undefined;
  #renewing: Promise<Granted> | undefined;

  constructor(account: SwiftAccount, fetch: RemoteFetch, clock: Clock, retry: RetryOptions) {
    this.#account = account;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#retry = retry;
  }

  /** A session that is good now. Throws `unavailable` when there is none to be had. */
  async session(): Promise<SwiftSession> {
    if (this.#granted && this.#clock.nowMs() < this.#granted.renewAtMs) return this.#granted;
    return this.#renew();
  }

  /** Says that Swift refused a session: the next one is a new one, unless somebody else has fetched it already. */
  refused(session: SwiftSession): void {
    if (this.#granted?.token === session.token) this.#granted = undefined;
  }

  #renew(): Promise<Granted> {
    this.#renewing ??= retrying(() => this.#ask(), this.#retry)
      .then((granted) => {
        this.#granted = granted;
        return granted;
      })
      .finally(() => {
        this.#renewing = undefined;
      });
    return this.#renewing;
  }

  async #ask(): Promise<Granted> {
    const { authVersion } = this.#account;
    const [request, read] = authVersion === 1 ? version1 : authVersion === 2 ? version2 : version3;
    const response = await this.#fetch(request(this.#account));
    const text = await readText(response, ANSWER_CHARS_MAX);
    const { status } = response;
    if (isPassingStatus(status)) throw passingAnswer("the authentication of Swift", response, this.#clock.nowMs());
    if (status < 200 || status > 299) throw refusal(this.#account, status);
    const { token, storageUrl, lifeMs = UNKNOWN_LIFE_MS } = read(response.headers, text, this.#account);
    const earlierMs = Math.min(RENEW_BEFORE_MS, lifeMs * RENEW_BEFORE_SHARE);
    const url = textOption(this.#account, "object_storage_url") ?? storageUrl;
    return { token, storageUrl: url.replace(/\/+$/, ""), renewAtMs: this.#clock.nowMs() + lifeMs - earlierMs };
  }
}

interface Answer {
  readonly token: string;
  readonly storageUrl: string;
  /** How long the token lives by the server's own clock: ours may be wrong. */
  readonly lifeMs?: number | undefined;
}

type Version = readonly [
  (account: SwiftAccount) => RemoteRequest,
  (headers: Headers, text: string, account: SwiftAccount) => Answer,
];

/** As TempAuth and radosgw speak it. */
const version1: Version = [
  ({ authUrl, user, password }) => ({
    method: "GET",
    url: authUrl,
    headers: { "x-auth-user": user, "x-auth-key": password },
  }),
  (headers, _text, account) => {
    const token = headers.get("x-auth-token");
    const storageUrl = headers.get("x-storage-url");
    if (token === null || storageUrl === null) throw malformed(account);
    const lifeSeconds = Number(headers.get("x-auth-token-expires") ?? Number.NaN);
    return { token, storageUrl, lifeMs: lifeSeconds > 0 ? lifeSeconds * 1000 : undefined };
  },
];

const tokens2 = z.object({
  access: z.object({
    token: z.object({ id: z.string(), expires: z.string().optional() }),
    serviceCatalog: z.array(
      z.object({ type: z.string(), endpoints: z.array(z.record(z.string(), z.unknown())).default([]) }),
    ),
  }),
});

/** Keystone v2, which is in no supported release any more: kept for those who never moved. */
const version2: Version = [
  (account) => {
    const tenantId = textOption(account, "tenant_id", "project_id");
    const tenantName = textOption(account, "tenant_name", "project_name");
    const tenant = tenantId === undefined ? { tenantName } : { tenantId };
    const passwordCredentials = { username: account.user, password: account.password };
    return jsonRequest(versioned(account.authUrl, "v2.0", "tokens"), { auth: { passwordCredentials, ...tenant } });
  },
  (headers, text, account) => {
    const { access } = parse(tokens2, text, account);
    const endpoints = access.serviceCatalog.filter(({ type }) => type === serviceType(account));
    const kind = `${interfaceOf(account)}URL`;
    const found = endpoints.flatMap((service) => service.endpoints).filter(({ region }) => isRegion(account, region));
    const storageUrl = found.map((endpoint) => endpoint[kind]).find((url) => typeof url === "string");
    // Only the header tells what time it is there.
    const lifeMs = between(headers.get("date") ?? undefined, access.token.expires);
    return { token: access.token.id, storageUrl: storageUrl ?? requireUrl(account), lifeMs };
  },
];

const tokens3 = z.object({
  token: z.object({
    issued_at: z.string().optional(),
    expires_at: z.string().optional(),
    catalog: z
      .array(
        z.object({
          type: z.string(),
          endpoints: z.array(
            z.object({
              interface: z.string(),
              url: z.string(),
              region: z.string().nullish(),
              region_id: z.string().nullish(),
            }),
          ),
        }),
      )
      .default([]),
  }),
});

const version3: Version = [
  (account) => {
    const user = domain(account, "user");
    const id = textOption(account, "user_id");
    const { password } = account;
    const identity = id === undefined ? { name: account.user, domain: user, password } : { id, password };
    const body = { auth: { identity: { methods: ["password"], password: { user: identity } }, ...scope(account) } };
    return jsonRequest(versioned(account.authUrl, "v3", "auth/tokens"), body);
  },
  (headers, text, account) => {
    const { token: grant } = parse(tokens3, text, account);
    const token = headers.get("x-subject-token");
    if (token === null) throw malformed(account);
    const endpoints = grant.catalog
      .filter(({ type }) => type === serviceType(account))
      .flatMap((service) => service.endpoints)
      .filter((endpoint) => endpoint.interface === interfaceOf(account))
      .filter(({ region, region_id }) => isRegion(account, region) || isRegion(account, region_id));
    const lifeMs = between(grant.issued_at ?? headers.get("date") ?? undefined, grant.expires_at);
    return { token, storageUrl: endpoints[0]?.url ?? requireUrl(account), lifeMs };
  },
];

function scope(account: SwiftAccount): object {
  const id = textOption(account, "project_id", "tenant_id");
  if (id !== undefined) return { scope: { project: { id } } };
  const name = textOption(account, "project_name", "tenant_name");
  return name === undefined ? {} : { scope: { project: { name, domain: domain(account, "project") } } };
}

/** The domain that a user's or a project's name belongs to. */
function domain(account: SwiftAccount, of: "user" | "project"): object {
  const id = textOption(account, `${of}_domain_id`);
  if (id !== undefined) return { id };
  const name = textOption(account, `${of}_domain_name`);
  if (name !== undefined) return { name };
  if (of === "project") return domain(account, "user");
  const common = textOption(account, "domain_name");
  return common === undefined ? { id: textOption(account, "domain_id") ?? "default" } : { name: common };
}

function textOption({ options }: SwiftAccount, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = options[name];
    if (typeof value === "string" && value !== "") return value;
  }
  return undefined;
}

function serviceType(account: SwiftAccount): string {
  return textOption(account, "service_type") ?? "object-store";
}

/** `public`, `internal` or `admin`; Quay's examples have `publicURL`. */
function interfaceOf(account: SwiftAccount): string {
  return (textOption(account, "endpoint_type") ?? "public").replace(/URL$/, "");
}

function isRegion(account: SwiftAccount, region: unknown): boolean {
  const wanted = textOption(account, "region_name");
  return wanted === undefined || wanted === region;
}

/** A URL below the version that `auth_url` names, or below `version` when it names none. */
function versioned(authUrl: string, version: string, path: string): string {
  const base = authUrl.replace(/\/+$/, "");
  return /\/v\d[\d.]*$/.test(base) ? `${base}/${path}` : `${base}/${version}/${path}`;
}

function jsonRequest(url: string, body: object): RemoteRequest {
  return { method: "POST", url, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

function between(from: string | undefined, until: string | undefined): number | undefined {
  const lifeMs = Date.parse(until ?? "") - Date.parse(from ?? "");
  return lifeMs > 0 ? lifeMs : undefined;
}

function parse<T>(shape: z.ZodType<T>, text: string, account: SwiftAccount): T {
  try {
    return shape.parse(JSON.parse(text));
  } catch (error) {
    throw malformed(account, error);
  }
}

/** The catalog need not name the store when the config does. */
function requireUrl(account: SwiftAccount): string {
  const given = textOption(account, "object_storage_url");
  if (given !== undefined) return given;
  const region = textOption(account, "region_name");
  const where = region === undefined ? "" : ` in region "${region}"`;
  throw new RegistryError("unavailable", {
    message: `the catalog of "${host(account)}" names no ${interfaceOf(account)} endpoint of type "${serviceType(account)}"${where}: see region_name, endpoint_type and object_storage_url in os_options`,
  });
}

function refusal(account: SwiftAccount, status: number): RegistryError {
  const message = `"${host(account)}" answered ${status} to Swift's user "${account.user}" with auth_version ${account.authVersion}: see auth_url, swift_user, swift_password and os_options`;
  return new RegistryError("unavailable", { message });
}

function malformed(account: SwiftAccount, cause?: unknown): RegistryError {
  const message = `"${host(account)}" does not answer as auth_version ${account.authVersion} does`;
  return new RegistryError("unavailable", { message, cause });
}

/** What may be shown of `auth_url`: it could carry a password. */
function host({ authUrl }: SwiftAccount): string {
  return URL.parse(authUrl)?.host ?? "auth_url";
}
