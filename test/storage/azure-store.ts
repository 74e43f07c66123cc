/** Containers of a real blob service for tests: made, opened as a blob store as often as wanted, and looked into from outside. */

import { type AzureStorageOptions, openAzureStorage } from "../../src/storage/azure/azure.ts";
import { AzureClient, type Credential } from "../../src/storage/azure/client.ts";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import { createRemoteFetch } from "../../src/storage/remote/request.ts";
import type { Azurite } from "../support/azurite.ts";

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
export const storagePath = "/data storage/registry/";
let containers = 0;

export interface Container {
  readonly name: string;
  readonly account: string;
  /** Sees the whole container, with the account's key. */
  readonly client: AzureClient;
  /** A driver of its own on the container, as each instance has one. */
  open(options?: Partial<AzureStorageOptions>): StorageDriver;
  /** A token for this container alone, as an operator makes one. `permissions` in the service's order. */
  sas(permissions?: string): Credential;
  /** Names of all blobs, sorted, without the health check's. */
  names(): Promise<string[]>;
}

export async function makeContainer({ account, key, url }: Azurite): Promise<Container> {
  const name = `registry-${process.pid}-${++containers}`;
  const shared = { account, container: name, accountUrl: url, clock: systemClock };
  const credential: Credential = { kind: "key", key };
  const fetch = createRemoteFetch("Azurite", noAuthorities);
  const client = new AzureClient({ ...shared, credential, storagePath: "", fetch });
  await client.call({ method: "PUT", query: { restype: "container" } });
  return {
    name,
    account,
    client,
    sas: (permissions = "racwdl") => ({
      kind: "sas",
      token: containerSas({ account, key, container: name, permissions }),
    }),
    open: (options) =>
      openAzureStorage({
        ...shared,
        credential,
        storagePath,
        authorities: noAuthorities,
        parts: new PartPool(),
        log: silentLog,
        ...options,
      }),
    names: async () => {
      const names: string[] = [];
      for await (const blob of client.list("")) if (!blob.name.endsWith("/.check")) names.push(blob.name);
      return names.sort();
    },
  };
}

/** Source: Blob service REST API, "Create a service SAS", version 2020-12-06. Written apart from what it tests. */
function containerSas(of: { account: string; key: string; container: string; permissions: string }): string {
  const version = "2020-12-06";
  const expires = `${new Date(Date.now() + 86_400_000).toISOString().slice(0, 19)}Z`;
  const resource = `/blob/${of.account}/${of.container}`;
  const text = [of.permissions, "", expires, resource, "", "", "", version, "c", "", "", "", "", "", "", ""].join("\n");
  const signature = new Bun.CryptoHasher("sha256", Buffer.from(of.key, "base64")).update(text).digest("base64");
  return `sv=${version}&se=${encodeURIComponent(expires)}&sr=c&sp=${of.permissions}&sig=${encodeURIComponent(signature)}`;
}
