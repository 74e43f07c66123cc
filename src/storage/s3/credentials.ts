/**
 * Where access keys come from: the config, or what the machine gives its programs, in the order in which AWS's own tools
 * look. Keys that end are renewed before they do, by one request at a time.
 */

import { readFile } from "node:fs/promises";
import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import { isPassingStatus, passingAnswer, type RemoteFetch, type RemoteRequest, readText } from "../remote/request.ts";
import { retrying } from "../remote/retry.ts";
import { awsUrl } from "./endpoint.ts";
import { type Credentials, encodeRfc3986 } from "./sign.ts";
import { parseXml, textOf, type XmlElement } from "./xml.ts";

export interface CredentialSource {
  /** Keys that are good now. Throws `unavailable` when none can be had. */
  get(): Promise<Credentials>;
  /** The store says that these have run out: the next `get` fetches fresh ones, if nobody has done so meanwhile. */
  refused(accessKeyId: string): void;
}

export interface EndingCredentials extends Credentials {
  /** Undefined for keys that do not end. */
  readonly expiresMs?: number;
}

export interface ProviderContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly fetch: RemoteFetch;
  readonly clock: Clock;
  readonly region: string;
}

/** Gives keys; undefined when this way is not open here. */
export type Provider = (context: ProviderContext) => Promise<EndingCredentials | undefined>;

/** Fresh keys are fetched when this much of their life is left: while that fails, the old ones are still good. */
const RENEW_BEFORE_MS = 5 * 60_000;
/** Keys that live shorter than that are renewed when a fifth is left. */
const RENEW_LEFT_SHARE = 0.2;
/** A renewal that failed while the old keys are good is tried again after this. */
const RETRY_RENEWAL_MS = 30_000;
/** A metadata service is on this machine: if it is there, it answers at once. */
const LOCAL_ANSWER_MS = 2000;
/** Text that no credentials service exceeds. */
const ANSWER_CHARS_MAX = 64 * 1024;

export function staticCredentials(credentials: Credentials): CredentialSource {
  return { get: async () => credentials, refused: () => undefined };
}

/** Keys of the first provider that has some. */
export function createCredentials(
  context: ProviderContext,
  providers: readonly Provider[] = defaultProviders,
): CredentialSource {
  let current: (EndingCredentials & { renewMs: number }) | undefined;
  let renewing: Promise<Credentials> | undefined;

  async function renew(): Promise<Credentials> {
    const nowMs = context.clock.nowMs();
    for (const provider of providers) {
      const found = await provider(context).catch((error: unknown) => {
        throw asUnavailable(error);
      });
      if (!found) continue;
      const lifeMs = (found.expiresMs ?? Number.POSITIVE_INFINITY) - nowMs;
      const renewMs = nowMs + lifeMs - Math.min(RENEW_BEFORE_MS, lifeMs * RENEW_LEFT_SHARE);
      current = { ...found, renewMs: Number.isNaN(renewMs) ? Number.POSITIVE_INFINITY : renewMs };
      return current;
    }
    throw new RegistryError("unavailable", {
      message:
        "no S3 credentials: give s3_access_key and s3_secret_key, or run where the environment, a web identity token, the container or the machine's metadata service has some",
    });
  }

  return {
    async get() {
      const nowMs = context.clock.nowMs();
      if (current && nowMs < current.renewMs) return current;
      renewing ??= renew().finally(() => {
        renewing = undefined;
      });
      if (!current || nowMs >= (current.expiresMs ?? Number.POSITIVE_INFINITY)) return renewing;
      const old = current;
      // The old ones are good for a while: nobody waits for the new ones.
      renewing.catch(() => {
        if (current === old) current = { ...old, renewMs: nowMs + RETRY_RENEWAL_MS };
      });
      return old;
    },
    refused(accessKeyId) {
      if (current?.accessKeyId === accessKeyId) current = undefined;
    },
  };
}

/** AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. */
export const fromEnvironment: Provider = async ({ env }) => {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: token } = env;
  if (!accessKeyId || !secretAccessKey) return undefined;
  return { accessKeyId, secretAccessKey, ...(token ? { sessionToken: token } : {}) };
};

/**
 * AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE: the token of a Kubernetes service account for a role. The file is read each
 * time, because it is renewed. Source: STS API reference, AssumeRoleWithWebIdentity.
 */
export const fromWebIdentity: Provider = async ({ env, fetch, region }) => {
  const { AWS_ROLE_ARN: role, AWS_WEB_IDENTITY_TOKEN_FILE: path } = env;
  if (!role || !path) return undefined;
  const token = (await readFile(path, "utf8")).trim();
  const query = {
    Action: "AssumeRoleWithWebIdentity",
    Version: "2011-06-15",
    RoleArn: role,
    RoleSessionName: env.AWS_ROLE_SESSION_NAME || "berth",
    WebIdentityToken: token,
  };
  const body = Object.entries(query)
    .map(([name, value]) => `${name}=${encodeRfc3986(value)}`)
    .join("&");
  const url = env.AWS_ENDPOINT_URL_STS || `${awsUrl(env.AWS_REGION || region, "sts")}/`;
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const text = await ask(fetch, { method: "POST", url, headers, body }, "AssumeRoleWithWebIdentity");
  const result = within(parseXml(text), "AssumeRoleWithWebIdentityResult", "Credentials");
  return decode({
    AccessKeyId: textOf(result, "AccessKeyId"),
    SecretAccessKey: textOf(result, "SecretAccessKey"),
    Token: textOf(result, "SessionToken"),
    Expiration: textOf(result, "Expiration"),
  });
};

/** Where ECS answers its containers. */
const CONTAINER_ORIGIN = "http://169.254.170.2";

/** AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI: what ECS and EKS pod identities give a container. */
export const fromContainer: Provider = async ({ env, fetch }) => {
  const { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: relative, AWS_CONTAINER_CREDENTIALS_FULL_URI: full } = env;
  const url = relative ? `${CONTAINER_ORIGIN}${relative}` : full;
  if (!url) return undefined;
  const file = env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE;
  const token = file ? (await readFile(file, "utf8")).trim() : env.AWS_CONTAINER_AUTHORIZATION_TOKEN;
  const headers = token ? { authorization: token } : {};
  const request = { method: "GET", url, headers, answerMs: LOCAL_ANSWER_MS } as const;
  return decode(parseJson(await ask(fetch, request, "the container's credentials")));
};

const METADATA_ORIGIN = "http://169.254.169.254";

/** The role of an EC2 machine, by version 2 of its metadata service, unless AWS_EC2_METADATA_DISABLED says not to ask. */
export const fromMachine: Provider = async ({ env, fetch }) => {
  if (env.AWS_EC2_METADATA_DISABLED?.toLowerCase() === "true") return undefined;
  const origin = (env.AWS_EC2_METADATA_SERVICE_ENDPOINT || METADATA_ORIGIN).replace(/\/+$/, "");
  const what = "the machine's metadata service";
  const answerMs = LOCAL_ANSWER_MS;
  const lifetime = { "x-aws-ec2-metadata-token-ttl-seconds": "21600" };
  const opened = { method: "PUT", url: `${origin}/latest/api/token`, headers: lifetime, answerMs } as const;
  // A machine that is not at AWS has no such service: not a failure, but no way either.
  const token = await ask(fetch, opened, what, 1).catch(() => undefined);
  if (token === undefined) return undefined;
  const headers = { "x-aws-ec2-metadata-token": token };
  const url = `${origin}/latest/meta-data/iam/security-credentials/`;
  const [role] = (await ask(fetch, { method: "GET", url, headers, answerMs }, what)).trim().split("\n");
  if (!role) return undefined;
  const request = { method: "GET", url: url + encodeRfc3986(role.trim()), headers, answerMs } as const;
  return decode(parseJson(await ask(fetch, request, what)));
};

export const defaultProviders: readonly Provider[] = [fromEnvironment, fromWebIdentity, fromContainer, fromMachine];

const shape = z.object({
  AccessKeyId: z.string().min(1),
  SecretAccessKey: z.string().min(1),
  Token: z.string().optional(),
  Expiration: z.string().optional(),
});

function decode(value: unknown): EndingCredentials {
  const read = shape.safeParse(value);
  if (!read.success) throw new RegistryError("unavailable", { message: "a credentials service gave no access key" });
  const { AccessKeyId, SecretAccessKey, Token, Expiration } = read.data;
  const expiresMs = Expiration === undefined ? Number.NaN : Date.parse(Expiration);
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    ...(Token === undefined ? {} : { sessionToken: Token }),
    ...(Number.isNaN(expiresMs) ? {} : { expiresMs }),
  };
}

/** A parser's own message quotes the text, in which there may be a secret. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A token's file that cannot be read, say: the store cannot be used until it can. */
function asUnavailable(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new RegistryError("unavailable", { message: `no S3 credentials: ${reason}`, cause: error });
}

/** The text of an answer of 200. No error holds the answer: it may have a secret in it. */
async function ask(fetch: RemoteFetch, request: RemoteRequest, what: string, triesMax = 3): Promise<string> {
  return retrying(
    async () => {
      const response = await fetch(request);
      const text = await readText(response, ANSWER_CHARS_MAX);
      if (response.status === 200) return text;
      if (isPassingStatus(response.status)) throw passingAnswer(what, response, Date.now());
      throw new RegistryError("unavailable", { message: `${what} answered ${response.status}: no S3 credentials` });
    },
    { triesMax },
  );
}

function within(element: XmlElement | undefined, ...path: string[]): XmlElement | undefined {
  let found = element;
  for (const name of path) found = found?.children.find((child) => child.name === name);
  return found;
}
