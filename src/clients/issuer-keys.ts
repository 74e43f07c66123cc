/**
 * OpenID issuers as far as checking their tokens goes: finds an issuer's keys through its discovery document, keeps them
 * for an hour, and verifies signatures with them. Whom a token may stand for is not decided here. Source: OpenID Connect
 * Discovery 1.0, section 4; quay-behaviour reference, section 16.
 */

import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import { RegistryError } from "../errors.ts";
import type { Clock } from "../lib/clock.ts";
import { Lru } from "../lib/lru.ts";
import type { OutboundAnswer, SafeFetch } from "../lib/safe-fetch.ts";

const ISSUERS_MAX = 500;
const KEEP_MS = 3600 * 1000;
/** An unknown key id may send us back to the issuer this often: forged tokens must not. */
const RELOAD_PAUSE_MS = 60_000;
const DOCUMENT_BYTES_MAX = 512 * 1024;
const TIMEOUT_MS = 5000;
/** Clocks differ. Source: quay-behaviour reference, section 16. */
const LEEWAY_SECONDS = 30;
/** Signatures by a private key alone: with a shared secret, or none, anybody who knows the issuer could sign. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"];

interface Known {
  readonly keys: ReturnType<typeof createLocalJWKSet>;
  readonly loadedMs: number;
}

export class IssuerKeys {
  readonly #options: { fetch: SafeFetch; clock: Clock };
  readonly #known = new Lru<string, Known>(ISSUERS_MAX);
  readonly #loading = new Map<string, Promise<Known>>();

  constructor(options: { fetch: SafeFetch; clock: Clock }) {
    this.#options = options;
  }

  /**
   * The claims of a token that `issuer` signed for one of `audiences` and that is valid now. Throws `unauthorized` with
   * the reason, `external_service_timeout` or `downstream_issue` when the issuer's keys cannot be had.
   */
  async verify(token: string, issuer: string, audiences: readonly string[]): Promise<JWTPayload> {
    const known = await this.#keysOf(issuer, KEEP_MS);
    try {
      return await this.#verifyWith(known, token, issuer, audiences);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw refused(error);
    }
    // The issuer may have changed its keys since.
    const reloaded = await this.#keysOf(issuer, RELOAD_PAUSE_MS);
    try {
      return await this.#verifyWith(reloaded, token, issuer, audiences);
    } catch (error) {
      throw refused(error);
    }
  }

  async #verifyWith(known: Known, token: string, issuer: string, audiences: readonly string[]): Promise<JWTPayload> {
    const { payload } = await jwtVerify(token, known.keys, {
      algorithms: ALGORITHMS,
      issuer,
      audience: [...audiences],
      requiredClaims: ["exp", "sub", "aud"],
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(this.#options.clock.nowMs()),
    });
    return payload;
  }

  async #keysOf(issuer: string, keepMs: number): Promise<Known> {
    const known = this.#known.get(issuer);
    if (known && this.#options.clock.nowMs() - known.loadedMs < keepMs) return known;
    let loading = this.#loading.get(issuer);
    if (!loading) {
      loading = this.#load(issuer).finally(() => this.#loading.delete(issuer));
      this.#loading.set(issuer, loading);
    }
    return loading;
  }

  async #load(issuer: string): Promise<Known> {
    const discovery = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
    const document = await this.#json(discovery);
    if (document.issuer !== issuer) throw failed(discovery, "it names another issuer");
    if (typeof document.jwks_uri !== "string") throw failed(discovery, "it names no jwks_uri");
    // What an issuer asks us over https must not be answered by whoever listens in on plain http.
    if (issuer.startsWith("https:") && !document.jwks_uri.startsWith("https:")) {
      throw failed(discovery, "its jwks_uri is not https");
    }
    const set = await this.#json(document.jwks_uri);
    try {
      const keys = createLocalJWKSet(set as unknown as JSONWebKeySet);
      const known = { keys, loadedMs: this.#options.clock.nowMs() };
      this.#known.set(issuer, known);
      return known;
    } catch (error) {
      throw failed(document.jwks_uri, "it is not a set of keys", error);
    }
  }

  async #json(url: string): Promise<Record<string, unknown>> {
    const { status, body } = await this.#get(url);
    if (status !== 200) throw failed(url, `it answered ${status}`);
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder().decode(body));
    } catch (error) {
      throw failed(url, "it is not JSON", error);
    }
    if (typeof value !== "object" || value === null) throw failed(url, "it is not a JSON object");
    return value as Record<string, unknown>;
  }

  async #get(url: string): Promise<OutboundAnswer> {
    const headers = { Accept: "application/json" };
    try {
      const limits = { timeoutMs: TIMEOUT_MS, answerBytesMax: DOCUMENT_BYTES_MAX };
      return await this.#options.fetch({ method: "GET", url, headers, ...limits });
    } catch (error) {
      // An address that may not be asked is the issuer's fault and not that of whoever holds its token.
      if (error instanceof RegistryError && error.code === "invalid_request") throw failed(url, error.message, error);
      throw error;
    }
  }
}

function failed(url: string, reason: string, cause?: unknown): RegistryError {
  return new RegistryError("downstream_issue", { message: `cannot use ${url}: ${reason}`, cause });
}

/** jose's own errors say what is wrong with the token; anything else is a fault. */
function refused(error: unknown): unknown {
  if (!(error instanceof errors.JOSEError)) return error;
  return new RegistryError("unauthorized", {
    message: `the ID token is not valid here: ${error.message}`,
    cause: error,
  });
}
