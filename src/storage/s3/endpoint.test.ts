import { describe, expect, test } from "bun:test";
import { awsUrl, type EndpointOptions, endpointUrl, makeEndpoint } from "./endpoint.ts";

const aws = { region: "eu-central-1", bucket: "blobs", style: "auto" } as const;
const other = { ...aws, url: "https://s3.example.com:9000" } as const;

const addresses: [string, EndpointOptions, string][] = [
  ["AWS", aws, "https://blobs.s3.eu-central-1.amazonaws.com/"],
  ["AWS in China", { ...aws, region: "cn-north-1" }, "https://blobs.s3.cn-north-1.amazonaws.com.cn/"],
  [
    "AWS with a bucket that its certificate does not fit",
    { ...aws, bucket: "my.blobs" },
    "https://s3.eu-central-1.amazonaws.com/my.blobs/",
  ],
  ["AWS with a bucket in capitals", { ...aws, bucket: "Blobs" }, "https://s3.eu-central-1.amazonaws.com/Blobs/"],
  ["AWS by path", { ...aws, style: "path" }, "https://s3.eu-central-1.amazonaws.com/blobs/"],
  ["another server", other, "https://s3.example.com:9000/blobs/"],
  ["another server by name", { ...other, style: "virtual" }, "https://blobs.s3.example.com:9000/"],
  ["a server below a path", { ...aws, url: "http://gateway/s3/" }, "http://gateway/s3/blobs/"],
  ["an IPv6 address", { ...aws, url: "http://[fd00::1]:7480" }, "http://[fd00::1]:7480/blobs/"],
  ["a bucket of an odd name", { ...other, bucket: "tenant:blobs" }, "https://s3.example.com:9000/tenant%3Ablobs/"],
  [
    "a name that only ends like AWS",
    { ...aws, url: "https://amazonaws.com.example" },
    "https://amazonaws.com.example/blobs/",
  ],
];
test.each(addresses)("%s", (_name, options, bucketUrl) => {
  const endpoint = makeEndpoint(options);
  expect(endpoint.bucketUrl).toBe(bucketUrl);
  expect(endpoint.publicBucketUrl).toBe(bucketUrl);
  expect(endpoint.isSecure).toBe(bucketUrl.startsWith("https:"));
  expect(endpoint.isAws).toBe(new URL(bucketUrl).hostname.match(/\.amazonaws\.com(\.cn)?$/) !== null);
});

test("clients have an address of their own, of the same style", () => {
  const inside = { ...aws, url: "http://10.0.0.1:7480", publicUrl: "https://s3.example.com" } as const;
  expect(makeEndpoint(inside)).toEqual({
    bucketUrl: "http://10.0.0.1:7480/blobs/",
    publicBucketUrl: "https://s3.example.com/blobs/",
    isAws: false,
    isSecure: false,
  });
});

const hosts: [string, number | undefined, boolean, string][] = [
  ["s3.example.com", undefined, true, "https://s3.example.com"],
  ["s3.example.com", 9000, false, "http://s3.example.com:9000"],
  ["s3.example.com:9000", undefined, true, "https://s3.example.com:9000"],
  ["http://s3.example.com", 9000, true, "http://s3.example.com:9000"],
  ["https://s3.example.com/", 9000, false, "https://s3.example.com:9000"],
  ["::1", 9000, false, "http://[::1]:9000"],
  ["[::1]", 9000, false, "http://[::1]:9000"],
  ["fd00::1", undefined, true, "https://[fd00::1]"],
  ["127.0.0.1", 9000, false, "http://127.0.0.1:9000"],
];
test.each(hosts)("host %p and port %p, secure %p, are %p", (host, port, isSecure, url) => {
  expect(endpointUrl(host, port, isSecure)).toBe(url);
  expect(makeEndpoint({ ...aws, url }).bucketUrl).toBe(`${new URL(url).href}blobs/`);
});

test("services of AWS have their own addresses", () => {
  expect(awsUrl("us-east-1")).toBe("https://s3.us-east-1.amazonaws.com");
  expect(awsUrl("cn-north-1", "sts")).toBe("https://sts.cn-north-1.amazonaws.com.cn");
});

describe("is refused, with the words for an operator", () => {
  const wrong: [string, Partial<EndpointOptions>, string][] = [
    ["no URL", { url: "s3.example.com" }, '"s3.example.com" must be a URL'],
    ["another scheme", { url: "ftp://s3.example.com" }, "must be a URL"],
    ["a user", { url: "https://user:hush@s3.example.com" }, "must be a URL"],
    ["a query", { url: "https://s3.example.com/?x=1" }, "without a query"],
    ["no URL for clients", { publicUrl: "cdn" }, '"cdn" must be a URL'],
    ["an address by name", { url: "http://127.0.0.1:9000", style: "virtual" }, '"127.0.0.1" is an address'],
    ["an IPv6 address by name", { url: "http://[::1]", style: "virtual" }, '"[::1]" is an address'],
  ];
  test.each(wrong)("%s", (_name, options, message) => {
    expect(() => makeEndpoint({ ...aws, ...options })).toThrow(message);
  });
});
