/**
 * Signed URLs of a CloudFront distribution in front of the bucket. Who has one may fetch one object until it ends; what
 * CloudFront then asks the bucket for is between those two. Source: the CloudFront developer guide, "Creating a signed URL
 * using a canned policy".
 */

import { createPrivateKey, type KeyObject, sign } from "node:crypto";
import type { Clock } from "../../lib/clock.ts";
import { encodeKey } from "./sign.ts";

export interface CloudFrontOptions {
  /** `d111111abcdef8.cloudfront.net`, or a name of the operator's for it. */
  readonly domain: string;
  /** Domains that some namespaces have instead. */
  readonly domains: Readonly<Record<string, string>>;
  /** Id of the public key, as CloudFront knows it. */
  readonly keyId: string;
  /** RSA, in PEM. */
  readonly privateKey: string;
  readonly clock: Clock;
}

/** Base64 has three characters that mean something in a URL; CloudFront wants these in their place. */
const replacements: Readonly<Record<string, string>> = { "+": "-", "=": "_", "/": "~" };
const domainPattern = /^[A-Za-z0-9.-]+(:[0-9]{1,5})?$/;

export class CloudFrontSigner {
  readonly #options: CloudFrontOptions;
  readonly #key: KeyObject;
  readonly #domains: ReadonlyMap<string, string>;

  /** Throws a plain Error, which holds nothing of the key, when it cannot be used or a domain is none. */
  constructor(options: CloudFrontOptions) {
    this.#options = options;
    this.#key = parseKey(options.privateKey);
    this.#domains = new Map(Object.entries(options.domains));
    for (const domain of [options.domain, ...this.#domains.values()]) {
      if (!domainPattern.test(domain)) throw new Error(`"${domain.slice(0, 200)}" must be a domain without a scheme`);
    }
  }

  /**
   * The URL of an object for `lifeSeconds`. As in Quay the path is the key without `storage_path`, which the distribution
   * has as its origin's path.
   */
  url(key: string, namespace: string | undefined, lifeSeconds: number): string {
    const { domain, keyId, clock } = this.#options;
    const own = namespace === undefined ? undefined : this.#domains.get(namespace);
    const url = `https://${own ?? domain}/${encodeKey(key)}`;
    const endSeconds = Math.floor(clock.nowMs() / 1000) + lifeSeconds;
    const signature = sign("RSA-SHA1", Buffer.from(cannedPolicy(url, endSeconds)), this.#key);
    return `${url}?Expires=${endSeconds}&Signature=${forUrl(signature)}&Key-Pair-Id=${encodeURIComponent(keyId)}`;
  }
}

/** What is signed: CloudFront makes the same text of the URL that it is asked for, to the last character. */
export function cannedPolicy(url: string, endSeconds: number): string {
  return `{"Statement":[{"Resource":"${url}","Condition":{"DateLessThan":{"AWS:EpochTime":${endSeconds}}}}]}`;
}

function forUrl(signature: Buffer): string {
  return signature.toString("base64").replace(/[+=/]/g, (char) => replacements[char] ?? char);
}

function parseKey(pem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // OpenSSL's words could quote what it read.
    throw new Error("it is no private key in PEM");
  }
  if (key.asymmetricKeyType !== "rsa") throw new Error(`it must be an RSA key and is ${key.asymmetricKeyType}`);
  return key;
}
