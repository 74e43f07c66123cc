/** Containers of a real Swift for tests: made, opened as a blob store as often as wanted, and looked into from outside. */

import type { StorageDriver } from "../../src/storage/driver.ts";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import { createRemoteFetch } from "../../src/storage/remote/request.ts";
import { type SwiftAccount, SwiftAuth } from "../../src/storage/swift/auth.ts";
import { openSwiftStorage, type SwiftStorageOptions } from "../../src/storage/swift/swift.ts";
import type { Keystone } from "../support/keystone.ts";
import { swiftPassword, swiftUser } from "../support/swift.ts";

/** The system's certificates only. */
export const noAuthorities = async (): Promise<string[]> => [];
export const systemClock = { nowMs: (): number => Date.now() };
export const silentLog = {
  debug: (): void => {},
  info: (): void => {},
  warn: (): void => {},
  error: (): void => {},
  wants: (): boolean => false,
  flush: (): void => {},
};

export interface Container {
  readonly name: string;
  /** A driver of its own on the container, as each instance has one. */
  open(options?: Partial<SwiftStorageOptions>): StorageDriver;
  /** A request below the account: `/container/object`. */
  request(method: string, path: string, init?: RequestInit): Promise<Response>;
  /** A request to an object, named in full. */
  object(method: string, name: string, init?: RequestInit): Promise<Response>;
  /** Names of all objects, sorted, without the health check's. */
  names(): Promise<string[]>;
}

export const storagePath = "/datastorage/registry";
let containers = 0;

export function accountV1(authUrl: string, options: Record<string, string> = {}): SwiftAccount {
  return { authUrl, authVersion: 1, user: swiftUser, password: swiftPassword, options };
}

export function accountV3(keystone: Keystone, options: Record<string, string> = {}): SwiftAccount {
  const { url, user, password, domain, projectId } = keystone;
  const own = { user_domain_name: domain, tenant_id: projectId, ...options };
  return { authUrl: url, authVersion: 3, user, password, options: own };
}

export async function makeContainer(account: SwiftAccount): Promise<Container> {
  // A space, because a container may have one and a URL may not.
  const name = `registry ${process.pid} ${++containers}`;
  const fetchStore = createRemoteFetch("Swift", noAuthorities);
  const auth = new SwiftAuth(account, fetchStore, systemClock, {});
  const request = async (method: string, path: string, init: RequestInit = {}) => {
    const send = async () => {
      const session = await auth.session();
      const headers = { ...Object.fromEntries(new Headers(init.headers)), "x-auth-token": session.token };
      const response = await fetch(session.storageUrl + path, { ...init, method, headers });
      if (response.status === 401) auth.refused(session);
      return response;
    };
    const response = await send();
    return response.status === 401 ? send() : response;
  };
  const path = `/${encodeURIComponent(name)}`;
  const made = await request("PUT", path);
  if (made.status !== 201) throw new Error(`making a container ended with ${made.status}`);
  return {
    name,
    request,
    object: (method, object, init) => request(method, `${path}/${object}`, init),
    open: (options) =>
      openSwiftStorage({
        account,
        container: name,
        storagePath,
        authorities: noAuthorities,
        parts: new PartPool(),
        clock: systemClock,
        log: silentLog,
        ...options,
      }),
    names: async () => {
      const text = await (await request("GET", path)).text();
      return text.split("\n").filter((object) => object !== "" && !object.endsWith("/.check"));
    },
  };
}
