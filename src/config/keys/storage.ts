/**
 * Blob storage: section 3 of the reference, with the arguments of every driver Quay has. An engine is written as a pair,
 * `[driver, {arguments}]`, under an id of the operator's choice.
 */
import { z } from "zod";
import {
  block,
  bool,
  bytes,
  minutes,
  oneOf,
  openBlock,
  optionalBool,
  optionalCount,
  optionalPort,
  optionalSeconds,
  optionalText,
  requiredText,
  seconds,
  sizeText,
  text,
  texts,
  timerSeconds,
} from "../fields.ts";

const partError = "must be a whole number of MiB from 5 to 512";

/** Berth's own, beside Quay's, for every engine that speaks S3. */
const s3Additions = {
  /** `auto`: the bucket before AWS's host name, and in the path of every other server. */
  addressing_style: oneOf(["auto", "path", "virtual"]).optional(),
  /** Length of the parts of an upload in MiB, 8 unless given; longer when MAXIMUM_LAYER_SIZE needs it. */
  part_size_mib: z.int({ error: partError }).min(5, { error: partError }).max(512, { error: partError }).optional(),
  /** Left out: AES256 at AWS, as Quay asks for, and none of other servers, which may refuse it. */
  server_side_encryption: oneOf(["none", "AES256", "aws:kms"]).optional(),
  kms_key_id: optionalText(),
  /** Where clients reach the store, when that is another address than ours. */
  public_endpoint_url: optionalText(),
  s3_region: optionalText(),
};

const s3 = {
  ...s3Additions,
  storage_path: requiredText(),
  s3_bucket: requiredText(),
  s3_access_key: optionalText(),
  s3_secret_key: optionalText(),
  /** Of keys that are good for a while only. */
  s3_session_token: optionalText(),
  host: optionalText(),
  port: optionalPort(),
  /** Whether `host` is spoken to over TLS, which it is unless this is false; `endpoint_url` says so itself. */
  is_secure: optionalBool(),
  endpoint_url: optionalText(),
  maximum_chunk_size_gb: optionalCount(),
};

const keyedBucket = {
  ...s3Additions,
  storage_path: requiredText(),
  access_key: requiredText(),
  secret_key: requiredText(),
  bucket_name: requiredText(),
};

const hostedBucket = {
  ...keyedBucket,
  hostname: requiredText(),
  is_secure: z.boolean({ error: "must be true or false" }),
  port: optionalPort(),
};

export const storageDrivers = {
  LocalStorage: block({ storage_path: requiredText().min(1, { error: "must be a directory's path" }) }),
  S3Storage: block(s3),
  RadosGWStorage: block(hostedBucket),
  RHOCSStorage: block(hostedBucket),
  GoogleCloudStorage: block(keyedBucket),
  AzureStorage: block({
    azure_container: requiredText(),
    storage_path: requiredText(),
    azure_account_name: requiredText(),
    azure_account_key: optionalText(),
    sas_token: optionalText(),
    endpoint_url: optionalText(),
  }),
  SwiftStorage: block({
    swift_container: requiredText(),
    storage_path: requiredText(),
    auth_url: requiredText(),
    swift_user: requiredText(),
    swift_password: requiredText(),
    // Quay compares the version as text, and YAML gives a number: both are in use.
    auth_version: z.literal([1, 2, 3, "1", "2", "3"], { error: "must be either 1, 2, or 3." }).optional(),
    os_options: openBlock().optional(),
    ca_cert_path: optionalText(),
    temp_url_key: optionalText(),
    simple_path_concat: optionalBool(),
    connect_timeout: optionalSeconds(),
    retry_count: optionalCount(),
    retry_on_ratelimit: optionalBool(),
  }),
  CloudFrontedS3Storage: block({
    ...s3,
    s3_region: requiredText(),
    cloudfront_distribution_domain: requiredText(),
    cloudfront_key_id: requiredText(),
    cloudfront_privatekey_filename: requiredText(),
    /** Domains of the distributions that some namespaces are sent to instead. */
    cloudfront_distribution_org_overrides: z
      .record(z.string(), requiredText(), { error: "must be a block of namespaces, each with its domain" })
      .optional(),
  }),
  CloudFlareStorage: block({
    ...s3,
    s3_region: requiredText(),
    cloudflare_domain: requiredText(),
    cloudflare_privatekey_filename: requiredText(),
  }),
  MultiCDNStorage: block({
    storage_config: openBlock(),
    providers: openBlock(),
    default_provider: requiredText(),
    rules: z.array(openBlock(), { error: "must be a list of rules" }).optional(),
  }),
};

export type StorageDriverName = keyof typeof storageDrivers;

/** One engine as a typed pair: `["LocalStorage", { storage_path }]`. */
export type StorageEngineConfig = {
  [Name in StorageDriverName]: [Name, z.infer<(typeof storageDrivers)[Name]>];
}[StorageDriverName];

export function isStorageDriver(name: unknown): name is StorageDriverName {
  return typeof name === "string" && Object.hasOwn(storageDrivers, name);
}

const engine = z.unknown().transform((value, ctx): StorageEngineConfig => {
  const fail = (message: string, path: (string | number)[] = []): never => {
    ctx.addIssue({ code: "custom", message, path });
    return z.NEVER;
  };
  if (!Array.isArray(value) || value.length !== 2) {
    return fail("must be a list of two: a driver and its arguments, such as [LocalStorage, {storage_path: /blobs}]");
  }
  const [name, args]: unknown[] = value;
  if (!isStorageDriver(name)) {
    return fail(`must be a valid storage type: one of ${Object.keys(storageDrivers).join(", ")}`, [0]);
  }
  const parsed = storageDrivers[name].safeParse(args);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      ctx.addIssue({ code: "custom", message: issue.message, path: [1, ...issue.path] });
    }
    return z.NEVER;
  }
  // The name and its arguments were checked as a pair; the compiler sees two unions.
  return [name, parsed.data] as StorageEngineConfig;
});

export const storageKeys = {
  /** Quay requires it. Berth: the loader fills in `default: [LocalStorage, {storage_path: <data directory>/blobs}]`. */
  DISTRIBUTED_STORAGE_CONFIG: z
    .record(z.string(), engine, { error: "must be a block of location ids, each with a driver and its arguments" })
    .refine((engines) => Object.keys(engines).length > 0, { error: "must contain at least one storage location." })
    .optional(),
  /** Quay requires it. Berth: every id of DISTRIBUTED_STORAGE_CONFIG in its order, which is the only choice with one. */
  DISTRIBUTED_STORAGE_PREFERENCE: z
    .array(requiredText(), { error: "must be a list of ids of DISTRIBUTED_STORAGE_CONFIG" })
    .min(1, { error: "must name at least one id of DISTRIBUTED_STORAGE_CONFIG" })
    .optional(),
  DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: texts(),
  FEATURE_STORAGE_REPLICATION: bool(false),
  FEATURE_PROXY_STORAGE: bool(false),
  STORAGE_REPLICATION_PROCESSING_SECONDS: seconds(1200),
  DISTRIBUTED_STORAGE_VALIDATE_ENDTOEND: bool(false),
  USERFILES_LOCATION: optionalText(),
  USERFILES_PATH: text("userfiles/"),
  LOG_ARCHIVE_LOCATION: optionalText(),
  LOG_ARCHIVE_PATH: text("logarchive/"),
  MAXIMUM_LAYER_SIZE: sizeText().default("20G"),
  CLEAN_BLOB_UPLOAD_FOLDER: bool(true),
  BLOBUPLOAD_CLEANUP_FREQUENCY: timerSeconds(3600),
  BLOBUPLOAD_DELETION_DATE_THRESHOLD: minutes(2880, 1),
  PUSH_TEMP_TAG_EXPIRATION_SEC: seconds(3600),
  SIGNED_GRANT_EXPIRATION_SEC: seconds(86_400),
  // Berth's own: blobs are read again and compared with their digests.
  FEATURE_SCRUB: bool(true),
  /** Of each process; 0 is as fast as it can. The default reads 5 TB in a week and is not noticed beside pulls. */
  SCRUB_BYTES_PER_SECOND: bytes(8 * 1024 * 1024),
  /** From the beginning of one pass over a location to that of the next. */
  SCRUB_PASS_INTERVAL_SECONDS: seconds(7 * 24 * 3600, 1),
};
