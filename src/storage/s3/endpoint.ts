/** Where a bucket is: its URL for us and for clients, and what is known of the server behind it. Pure. */

import { isIP, isIPv6 } from "node:net";

export type AddressingStyle = "auto" | "path" | "virtual";

export interface EndpointOptions {
  /** `https://host[:port]`; AWS's own of the region when left out. */
  readonly url?: string | undefined;
  /** The same for clients, where they reach the store under another name. */
  readonly publicUrl?: string | undefined;
  readonly region: string;
  readonly bucket: string;
  /** `auto` puts the bucket before AWS's host name and into the path of every other server. */
  readonly style: AddressingStyle;
}

export interface Endpoint {
  /** The bucket's URL, with a slash at its end to which a key is added. */
  readonly bucketUrl: string;
  readonly publicBucketUrl: string;
  readonly isAws: boolean;
  readonly isSecure: boolean;
}

/** Throws a plain Error, worded for the operator, for a URL that is none. */
export function makeEndpoint(options: EndpointOptions): Endpoint {
  const own = new URL(options.url === undefined ? awsUrl(options.region) : parseEndpoint(options.url));
  const open = options.publicUrl === undefined ? own : new URL(parseEndpoint(options.publicUrl));
  const isAws = isAwsHost(own.hostname);
  const isVirtual = options.style === "virtual" || (options.style === "auto" && isAws && canBeHostName(options.bucket));
  if (isVirtual) for (const url of [own, open]) requireName(url);
  return {
    bucketUrl: bucketUrl(own, options.bucket, isVirtual),
    publicBucketUrl: bucketUrl(open, options.bucket, isVirtual),
    isAws,
    isSecure: own.protocol === "https:",
  };
}

/** Host and port as Quay has them, of which the host may carry a scheme, and may be an IPv6 address without brackets. */
export function endpointUrl(host: string, port: number | undefined, isSecure: boolean): string {
  const name = isIPv6(host) ? `[${host}]` : host;
  const withScheme = /^https?:\/\//i.test(name) ? name : `${isSecure ? "https" : "http"}://${name}`;
  return port === undefined ? withScheme : `${withScheme.replace(/\/+$/, "")}:${port}`;
}

/** AWS's address of a service in a region, in its partition. */
export function awsUrl(region: string, service = "s3"): string {
  return `https://${service}.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
}

function isAwsHost(host: string): boolean {
  return /\.amazonaws\.com(\.cn)?$/.test(host);
}

/** Dots would not fit the certificate of `*.s3.amazonaws.com`. */
function canBeHostName(bucket: string): boolean {
  return /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(bucket);
}

/** No bucket's name can be put before an address. */
function requireName({ hostname }: URL): void {
  if (isIP(hostname.replace(/^\[|\]$/g, "")) === 0) return;
  throw new Error(`addressing_style "virtual" needs a host with a name, and "${hostname}" is an address`);
}

function bucketUrl(base: URL, bucket: string, isVirtual: boolean): string {
  const path = base.pathname.replace(/\/+$/, "");
  if (isVirtual) return `${base.protocol}//${bucket}.${base.host}${path}/`;
  return `${base.protocol}//${base.host}${path}/${encodeURIComponent(bucket)}/`;
}

function parseEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url && url.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (isPlain && (url.protocol === "http:" || url.protocol === "https:")) return text;
  throw new Error(`"${text.slice(0, 200)}" must be a URL such as https://s3.example.com:9000, without a query`);
}
