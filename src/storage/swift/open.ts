/** From the arguments of `SwiftStorage` in config.yaml to its driver. */

import { readFile } from "node:fs/promises";
import type { StorageEngineConfig } from "../../config/keys/storage.ts";
import type { StorageDriver } from "../driver.ts";
import type { EngineContext } from "../open.ts";
import { openSwiftStorage } from "./swift.ts";

type SwiftArguments = Extract<StorageEngineConfig, ["SwiftStorage", unknown]>[1];

/** Quay's default when `auth_version` is left out. */
const AUTH_VERSION = 2;

export function openSwift(args: SwiftArguments, context: EngineContext): StorageDriver {
  const { temp_url_key, connect_timeout, retry_count, retry_on_ratelimit, simple_path_concat } = args;
  return openSwiftStorage({
    account: {
      authUrl: args.auth_url,
      authVersion: Number(args.auth_version ?? AUTH_VERSION),
      user: args.swift_user,
      password: args.swift_password,
      options: args.os_options ?? {},
    },
    container: args.swift_container,
    storagePath: args.storage_path,
    ...(simple_path_concat === undefined ? {} : { simplePathConcat: simple_path_concat }),
    ...(temp_url_key === undefined ? {} : { tempUrlKey: temp_url_key }),
    ...(connect_timeout === undefined ? {} : { answerMs: connect_timeout * 1000 }),
    // Quay takes 0 for "not given".
    ...(retry_count === undefined || retry_count === 0 ? {} : { retryCount: retry_count }),
    ...(retry_on_ratelimit === undefined ? {} : { retryOnRateLimit: retry_on_ratelimit }),
    authorities: withFile(context.authorities, args.ca_cert_path),
    parts: context.parts,
    clock: context.clock,
    log: context.log,
  });
}

/** The authorities of the process and those of one more file, which is read when they are first asked for. */
function withFile(
  authorities: () => Promise<readonly string[]>,
  path: string | undefined,
): () => Promise<readonly string[]> {
  if (path === undefined) return authorities;
  let reading: Promise<readonly string[]> | undefined;
  const read = async () => {
    const [known, extra] = await Promise.all([authorities(), readFile(path, "utf8")]);
    // None known means the system's own, which naming one would replace.
    const base = known.length > 0 ? known : (await import("node:tls")).rootCertificates;
    return [...base, extra];
  };
  return () => {
    reading ??= read().catch((error: unknown) => {
      reading = undefined;
      throw error;
    });
    return reading;
  };
}
