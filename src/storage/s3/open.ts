/** From the arguments of the S3 engines in config.yaml to their driver: Quay's names, and defaults that fit each server. */

import { readFileSync } from "node:fs";
import { awsEnvironment } from "../../config/environment.ts";
import { type Config, ConfigError } from "../../config/load.ts";
import type { StorageDriver } from "../driver.ts";
import type { EngineContext } from "../open.ts";
import { createRemoteFetch } from "../remote/request.ts";
import type { RetryOptions } from "../remote/retry.ts";
import { S3Client } from "./client.ts";
import { CloudFrontSigner } from "./cloudfront.ts";
import { type CredentialSource, createCredentials, staticCredentials } from "./credentials.ts";
import { type Endpoint, endpointUrl, makeEndpoint } from "./endpoint.ts";
import { type ObjectHeaders, PART_BYTES_MIN, PARTS_MAX } from "./multipart.ts";
import { S3Storage, type S3StorageOptions } from "./s3.ts";

export type S3EngineName =
  | "S3Storage"
  | "RadosGWStorage"
  | "RHOCSStorage"
  | "GoogleCloudStorage"
  | "CloudFrontedS3Storage";
export type S3EngineConfig = Extract<Config["DISTRIBUTED_STORAGE_CONFIG"][string], readonly [S3EngineName, unknown]>;

const mebibyte = 1024 * 1024;
const gibibyte = 1024 * mebibyte;
const PART_MIB = 8;
/** Parts of the largest layer, so that its multipart upload keeps below the API's 10,000. */
const LAYER_PARTS_MAX = PARTS_MAX - 1000;
/** What one request may copy, by the S3 API. */
const COPY_BYTES_MAX = 5 * gibibyte;
const AWS_REGION = "us-east-1";
/** Google has one endpoint for all regions, and takes this name in signatures for it. */
const GOOGLE_REGION = "auto";
const GOOGLE_URL = "https://storage.googleapis.com";

/** What the engines have in common once their arguments are read. */
interface Settings {
  readonly url: string | undefined;
  readonly region: string;
  readonly bucket: string;
  readonly credentials: CredentialSource;
  readonly copyBytesMax: number;
  readonly copiesRanges: boolean;
}

/**
 * Opens an engine. Asks the store nothing. Throws a ConfigError for arguments that cannot be right together. `more` takes
 * the place of what follows from the arguments: another patience, smaller bounds than the API's, another address.
 */
export function openS3(
  engine: S3EngineConfig,
  location: string,
  context: EngineContext,
  more: { readonly retry?: RetryOptions; readonly copyBytesMax?: number; readonly url?: string } = {},
): StorageDriver {
  const [kind, args] = engine;
  const known = settingsOf(engine, location, context);
  const settings = { ...known, url: more.url ?? known.url };
  const { region, bucket, credentials, copyBytesMax, copiesRanges } = settings;
  const endpoint = endpointOf(settings, args, location);
  const { clock, log, parts, layerBytesMax } = context;
  const client = new S3Client({
    name: kind,
    endpoint,
    bucket,
    region,
    credentials,
    fetch: createRemoteFetch(kind, context.authorities),
    clock,
    log,
    ...(more.retry ? { retry: more.retry } : {}),
  });
  const segmentBytes = Math.ceil(layerBytesMax / LAYER_PARTS_MAX);
  return new S3Storage({
    kind,
    client,
    storagePath: rootOf(args.storage_path, location),
    partBytes: Math.max((args.part_size_mib ?? PART_MIB) * mebibyte, segmentBytes),
    segmentBytesMin: Math.max(PART_BYTES_MIN, segmentBytes),
    copyBytesMax: more.copyBytesMax ?? copyBytesMax,
    copiesRanges,
    objectHeaders: headersOf(endpoint, args),
    parts,
    clock,
    log,
    ...clientUrlOf(engine, location, context),
  });
}

/** CloudFront's URLs instead of presigned ones. Reads the private key: a push should not be what finds it missing. */
function clientUrlOf(
  [kind, args]: S3EngineConfig,
  location: string,
  { clock }: EngineContext,
): Pick<S3StorageOptions, "clientUrl"> {
  if (kind !== "CloudFrontedS3Storage") return {};
  const path = args.cloudfront_privatekey_filename;
  try {
    const signer = new CloudFrontSigner({
      domain: args.cloudfront_distribution_domain,
      domains: args.cloudfront_distribution_org_overrides ?? {},
      keyId: args.cloudfront_key_id,
      privateKey: readFileSync(path, "utf8"),
      clock,
    });
    return { clientUrl: (key, request, lifeSeconds) => signer.url(key, request.namespace, lifeSeconds) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw wrong(location, `cannot sign CloudFront URLs with cloudfront_privatekey_filename "${path}": ${reason}`);
  }
}

function settingsOf([kind, args]: S3EngineConfig, location: string, context: EngineContext): Settings {
  switch (kind) {
    case "S3Storage":
    case "CloudFrontedS3Storage": {
      const region = args.s3_region ?? awsEnvironment().AWS_REGION ?? AWS_REGION;
      const { host, port, maximum_chunk_size_gb: copyGb } = args;
      const hostUrl = host === undefined ? undefined : endpointUrl(host, port, args.is_secure ?? true);
      return {
        url: args.endpoint_url ?? hostUrl,
        region,
        bucket: args.s3_bucket,
        credentials: credentialsOf(args, location, region, context),
        copyBytesMax:
          copyGb === undefined || copyGb === 0 ? COPY_BYTES_MAX : Math.min(COPY_BYTES_MAX, copyGb * gibibyte),
        copiesRanges: true,
      };
    }
    case "RadosGWStorage":
    case "RHOCSStorage":
      return {
        url: endpointUrl(args.hostname, args.port, args.is_secure),
        region: args.s3_region ?? AWS_REGION,
        bucket: args.bucket_name,
        credentials: staticCredentials({ accessKeyId: args.access_key, secretAccessKey: args.secret_key }),
        copyBytesMax: COPY_BYTES_MAX,
        copiesRanges: true,
      };
    case "GoogleCloudStorage":
      return {
        url: GOOGLE_URL,
        region: args.s3_region ?? GOOGLE_REGION,
        bucket: args.bucket_name,
        credentials: staticCredentials({ accessKeyId: args.access_key, secretAccessKey: args.secret_key }),
        copyBytesMax: COPY_BYTES_MAX,
        // Its XML interface copies objects of any length as a whole, and no ranges into parts.
        copiesRanges: false,
      };
  }
}

function credentialsOf(
  args: Extract<S3EngineConfig, readonly ["S3Storage", unknown]>[1],
  location: string,
  region: string,
  context: EngineContext,
): CredentialSource {
  const { s3_access_key: accessKeyId, s3_secret_key: secretAccessKey, s3_session_token: sessionToken } = args;
  if (accessKeyId && secretAccessKey) {
    return staticCredentials({ accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) });
  }
  if (accessKeyId || secretAccessKey) {
    throw wrong(location, "s3_access_key and s3_secret_key must be given together, or both left out");
  }
  const fetch = createRemoteFetch("the credentials service", context.authorities);
  return createCredentials({ env: awsEnvironment(), fetch, clock: context.clock, region });
}

function endpointOf({ url, region, bucket }: Settings, args: S3EngineConfig[1], location: string): Endpoint {
  const style = args.addressing_style ?? "auto";
  try {
    return makeEndpoint({ url, publicUrl: args.public_endpoint_url, region, bucket, style });
  } catch (error) {
    throw wrong(location, error instanceof Error ? error.message : String(error));
  }
}

/**
 * Quay asks for AES256 always. AWS encrypts so by itself since 2023, but a bucket's policy may want to be asked; Ceph, MinIO
 * and others refuse it where they have no keys. So it is asked of AWS, and of others when the config says so.
 */
export function headersOf({ isAws }: Pick<Endpoint, "isAws">, args: S3EngineConfig[1]): ObjectHeaders {
  const encryption = args.server_side_encryption ?? (isAws ? "AES256" : "none");
  const key = encryption === "aws:kms" ? args.kms_key_id : undefined;
  return {
    "content-type": "application/octet-stream",
    ...(encryption === "none" ? {} : { "x-amz-server-side-encryption": encryption }),
    ...(key === undefined ? {} : { "x-amz-server-side-encryption-aws-kms-key-id": key }),
  };
}

/** How keys begin: like Quay without one leading slash. Parts that a URL would resolve away cannot be asked for. */
function rootOf(storagePath: string, location: string): string {
  const root = storagePath.replace(/^\//, "").replace(/\/+$/, "");
  if (root !== "" && root.split("/").some((part) => part === "" || part === "." || part === "..")) {
    throw wrong(location, `storage_path "${storagePath}" must be names between single slashes, without "." and ".."`);
  }
  return root;
}

function wrong(location: string, message: string): ConfigError {
  return new ConfigError([{ key: `DISTRIBUTED_STORAGE_CONFIG.${location}`, message }]);
}
