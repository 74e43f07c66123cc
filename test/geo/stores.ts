/** Stores for two sites: a directory, or a container of a real Swift behind a proxy that can cut it off. */
import { mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { openLocalStorage } from "../../src/storage/local.ts";
import { accountV1, makeContainer, storagePath } from "../storage/swift-store.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { type SwiftCluster, type SwiftProxy, startSwift, swiftPassword, swiftUser } from "../support/swift.ts";

export type Loss = "refused" | "silent";

export interface GeoStore {
  /** Its entry in DISTRIBUTED_STORAGE_CONFIG. */
  readonly engine: readonly [string, Record<string, unknown>];
  /** Looks into the store from outside, whatever is lost. */
  readonly driver: StorageDriver;
  /** What URLs at the store begin with, where it gives any. */
  readonly url: string | undefined;
  /** Cuts it off from every site. */
  lose(how: Loss): void;
  /** Brings it back. */
  mend(): void;
}

export interface RemoteStore extends GeoStore {
  readonly url: string;
  readonly proxy: FaultProxy;
}

/** A directory; losing it moves it away, as an unmounted disk does. */
export async function localStore(dir: string, name: string): Promise<GeoStore> {
  const path = join(dir, name);
  mkdirSync(path, { recursive: true });
  return {
    engine: ["LocalStorage", { storage_path: path }],
    driver: await openLocalStorage({ rootPath: path }),
    url: undefined,
    lose: () => renameSync(path, `${path}.lost`),
    mend: () => renameSync(`${path}.lost`, path),
  };
}

export interface RemoteStores {
  make(): Promise<RemoteStore>;
  stop(): Promise<void>;
}

const TEMP_URL_KEY = "a-key-for-urls";

/** Starts a Swift; each store is a container of its own behind a proxy of its own. */
export async function startRemoteStores(): Promise<RemoteStores> {
  const cluster: SwiftCluster = await startSwift();
  const proxies: FaultProxy[] = [];
  let server: SwiftProxy;
  try {
    server = await cluster.startProxy();
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return {
    async make() {
      const container = await makeContainer(accountV1(cluster.authUrl(server)));
      await container.request("POST", "", { headers: { "x-account-meta-temp-url-key": TEMP_URL_KEY } });
      const proxy = await startFaultProxy({ host: "127.0.0.1", port: Number(new URL(server.url).port), http: true });
      proxies.push(proxy);
      const url = `http://127.0.0.1:${proxy.port}`;
      return {
        engine: [
          "SwiftStorage",
          {
            swift_container: container.name,
            storage_path: storagePath,
            auth_url: `${url}/auth/v1.0`,
            auth_version: 1,
            swift_user: swiftUser,
            swift_password: swiftPassword,
            temp_url_key: TEMP_URL_KEY,
          },
        ],
        driver: container.open(),
        url,
        proxy,
        lose(how) {
          if (how === "refused") proxy.faults.refuse = true;
          else proxy.faults.silent.toClient = true;
          if (how === "refused") proxy.resetAll();
        },
        mend: () => proxy.faults.clear(),
      };
    },
    async stop() {
      for (const proxy of proxies) await proxy.stop();
      await cluster.stop();
    },
  };
}
