/** Host, TLS, sessions and the process as a whole: section 1 of Quay's configuration reference. */
import { z } from "zod";
import { parseNetwork } from "../../lib/ip-address.ts";
import {
  bool,
  duration,
  hostname,
  listOf,
  oneOf,
  optionalBool,
  optionalCount,
  optionalSecret,
  optionalTexts,
  requiredText,
  text,
} from "../fields.ts";

const networkError = "must be a network such as 10.0.0.0/8 or 2001:db8::/32, or a list of them";
const network = () => requiredText().refine((value) => parseNetwork(value) !== undefined, { error: networkError });

export const basicKeys = {
  /** Quay: localhost:5000. Berth: none, and then the Host of each request is used, so that a first try needs no config. */
  SERVER_HOSTNAME: hostname().optional(),
  PREFERRED_URL_SCHEME: oneOf(["http", "https"]).default("http"),
  EXTERNAL_TLS_TERMINATION: bool(false),
  SSL_CIPHERS: optionalTexts(),
  SSL_PROTOCOLS: listOf(oneOf(["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]))
    .min(1, { error: "must name at least one of TLSv1.2, TLSv1.3" })
    .default(["TLSv1.2", "TLSv1.3"]),
  /** Quay: IPv4. Berth: dual-stack, because an IPv6-only machine should work untouched. */
  FEATURE_LISTEN_IP_VERSION: oneOf(["IPv4", "IPv6", "dual-stack"]).default("dual-stack"),
  FEATURE_FIPS: bool(false),
  /** Made at first start and kept in the database when absent, like DATABASE_SECRET_KEY. */
  SECRET_KEY: optionalSecret(),
  DATABASE_SECRET_KEY: optionalSecret(),
  SETUP_COMPLETE: bool(false),
  REGISTRY_STATE: oneOf(["normal", "readonly"]).default("normal"),
  ACCOUNT_RECOVERY_MODE: bool(false),
  CORS_ORIGIN: z
    .union([z.string(), z.array(z.string())], { error: "must be an origin or a list of origins" })
    .default("*"),
  BROWSER_API_CALLS_XHR_ONLY: bool(true),
  /** Without a value the loader sets it to whether PREFERRED_URL_SCHEME is https. */
  SESSION_COOKIE_SECURE: optionalBool(),
  SESSION_COOKIE_NAME: text("_csrf_token"),
  SESSION_COOKIE_HTTPONLY: bool(true),
  SESSION_COOKIE_SAMESITE: oneOf(["Lax", "Strict", "None"]).default("Lax"),
  FEATURE_PERMANENT_SESSIONS: bool(true),
  SESSION_TIMEOUT: duration("31d"),
  FRESH_LOGIN_TIMEOUT: duration("10m"),
  /** Quay: a constant that everybody knows. Berth: none, and then a key of this installation is used. */
  PAGE_TOKEN_KEY: optionalSecret(),
  TRUSTED_PROXY_CIDR: z.union([network(), z.array(network())], { error: networkError }).optional(),
  PROXY_COUNT: optionalCount(),
  FEATURE_PROXY_PROTOCOL: bool(false),
  /**
   * Quay: DEBUG in its defaults, but its log files' own configuration keeps that to INFO until DEBUGLOG is set. Berth says
   * outright what happens.
   */
  LOGGING_LEVEL: oneOf(["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL"]).default("INFO"),
  STAGGER_WORKERS: bool(true),
  IP_DATA_API_KEY: optionalSecret(),
  EXTRA_CA_CERTS: z.unknown().optional(),
};
