/**
 * The whole of Quay's config.yaml as one zod shape, and the type of the finished config. Every key of Quay 3.9 and of the
 * versions after it is here with its type and default; where Berth's own default differs, the key's file says so.
 */
import { z } from "zod";
import { accountKeys } from "./keys/accounts.ts";
import { basicKeys } from "./keys/basic.ts";
import { databaseKeys } from "./keys/database.ts";
import { directoryKeys } from "./keys/directories.ts";
import { gcKeys } from "./keys/gc.ts";
import { hostedKeys } from "./keys/hosted.ts";
import { interfaceKeys } from "./keys/interface.ts";
import { laterKeys } from "./keys/later.ts";
import { loginKeys, type OidcLogin, oidcLogin, oidcServiceId } from "./keys/logins.ts";
import { logKeys } from "./keys/logs.ts";
import { mirrorKeys } from "./keys/mirror.ts";
import { quotaKeys } from "./keys/quota.ts";
import { redisKeys } from "./keys/redis.ts";
import { secscanKeys } from "./keys/secscan.ts";
import { storageKeys } from "./keys/storage.ts";
import { tagKeys } from "./keys/tags.ts";

export const configShape = {
  ...basicKeys,
  ...databaseKeys,
  ...storageKeys,
  ...redisKeys,
  ...tagKeys,
  ...gcKeys,
  ...quotaKeys,
  ...accountKeys,
  ...directoryKeys,
  ...loginKeys,
  ...secscanKeys,
  ...mirrorKeys,
  ...logKeys,
  ...interfaceKeys,
  ...hostedKeys,
  ...laterKeys,
};

const configSchema = z.object(configShape);

/**
 * Applies the whole schema. A config is read once or twice in a process's life, so zod is told not to compile the schema
 * first: that alone took 60 of the 300 ms that a cold start may take.
 */
export function parseOnce(values: Record<string, unknown>): z.infer<typeof configSchema> {
  return configSchema.parse(values, { jitless: true });
}

export type ConfigKey = keyof typeof configShape;
type Parsed = z.infer<typeof configSchema>;

/** Keys that have no default of their own and that the loader fills in, from the data directory or from other keys. */
type FilledByLoader =
  | "DB_URI"
  | "DISTRIBUTED_STORAGE_CONFIG"
  | "DISTRIBUTED_STORAGE_PREFERENCE"
  | "SESSION_COOKIE_SECURE";

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** config.yaml with every default in place, under Quay's own keys, deeply frozen. `oidcLogins` reads `<ID>_LOGIN_CONFIG`. */
export type Config = DeepReadonly<
  Omit<Parsed, FilledByLoader> & { [Key in FilledByLoader]-?: Exclude<Parsed[Key], undefined> }
> & { readonly [id: `${string}_LOGIN_CONFIG`]: unknown };

export function isConfigKey(key: string): key is ConfigKey {
  return Object.hasOwn(configShape, key);
}

/** The schema of one key, an OpenID provider's block included; undefined for a key that Quay does not know. */
export function schemaOf(key: string): z.ZodType | undefined {
  if (isConfigKey(key)) return configShape[key];
  return oidcServiceId(key) === undefined ? undefined : oidcLogin;
}

/** The OpenID providers of a config by id (`azure` for AZURE_LOGIN_CONFIG), in the order of the file. */
export function oidcLogins(config: Config): Map<string, DeepReadonly<OidcLogin>> {
  const logins = new Map<string, DeepReadonly<OidcLogin>>();
  for (const [key, value] of Object.entries(config)) {
    const id = oidcServiceId(key);
    // Only values that passed `oidcLogin` get into a Config; the index signature cannot say so beside GITHUB_LOGIN_CONFIG.
    if (id !== undefined) logins.set(id, value as DeepReadonly<OidcLogin>);
  }
  return logins;
}

export type { OidcLogin };
