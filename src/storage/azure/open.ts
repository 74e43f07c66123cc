/** From the arguments of `AzureStorage` in config.yaml to its driver. */

import { ConfigError } from "../../config/error.ts";
import type { StorageEngineConfig } from "../../config/keys/storage.ts";
import type { StorageDriver } from "../driver.ts";
import type { EngineContext } from "../open.ts";
import { openAzureStorage } from "./azure.ts";
import type { Credential } from "./client.ts";

type AzureArguments = Extract<StorageEngineConfig, ["AzureStorage", unknown]>[1];

/** `location` names the engine in messages. Throws a ConfigError when nothing in `args` proves that we may use the account. */
export function openAzure(location: string, args: AzureArguments, context: EngineContext): StorageDriver {
  return openAzureStorage({
    account: args.azure_account_name,
    container: args.azure_container,
    storagePath: args.storage_path,
    accountUrl: args.endpoint_url || `https://${args.azure_account_name}.blob.core.windows.net`,
    credential: credentialOf(location, args),
    authorities: context.authorities,
    parts: context.parts,
    clock: context.clock,
    log: context.log,
  });
}

function credentialOf(location: string, { azure_account_key, sas_token }: AzureArguments): Credential {
  // As in Quay, the key comes first. Pasted ones often bring a line's end.
  const key = azure_account_key?.trim();
  if (key) return { kind: "key", key };
  const token = sas_token?.trim().replace(/^\?/, "");
  if (token) return { kind: "sas", token };
  const message = "AzureStorage needs azure_account_key or sas_token: neither is given";
  throw new ConfigError([{ key: `DISTRIBUTED_STORAGE_CONFIG.${location}`, message }]);
}
