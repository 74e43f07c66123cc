/** What the client does with answers, against a small server on this machine. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createRemoteFetch } from "../remote/request.ts";
import { headObject, isMissing, S3Client } from "./client.ts";
import type { CredentialSource } from "./credentials.ts";
import { makeEndpoint } from "./endpoint.ts";

const silent = (): void => {};
const log = { debug: silent, info: silent, warn: silent, error: silent, wants: () => false, flush: silent };
const errorOf = (code: string) => `<Error><Code>${code}</Code></Error>`;

let server: ReturnType<typeof Bun.serve>;
let answer: (request: Request, number: number) => Response;
/** Copied, because a request is emptied when it is over. */
let asked: { readonly url: string; readonly headers: Headers }[];
let given: number;
beforeEach(() => {
  asked = [];
  given = 0;
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      asked.push({ url: request.url, headers: new Headers(request.headers) });
      return answer(request, asked.length);
    },
  });
});
afterEach(() => server.stop(true));

/** Keys `key 0`, `key 1` …, of which the next comes when one is refused. */
const credentials: CredentialSource = {
  get: async () => ({ accessKeyId: `key-${given}`, secretAccessKey: "planted-secret", sessionToken: "planted-token" }),
  refused: (accessKeyId) => {
    if (accessKeyId === `key-${given}`) given++;
  },
};

function client(nowMs = () => Date.now()): S3Client {
  return new S3Client({
    name: "S3Storage",
    endpoint: makeEndpoint({ url: `http://127.0.0.1:${server.port}`, region: "us-east-1", bucket: "b", style: "auto" }),
    bucket: "b",
    region: "us-east-1",
    credentials,
    fetch: createRemoteFetch("S3Storage", async () => []),
    clock: { nowMs },
    log,
    retry: { sleep: async () => {} },
  });
}

const keysAsked = () => asked.map(({ headers }) => /Credential=([^/]+)/.exec(headers.get("authorization") ?? "")?.[1]);

describe("keys that ran out before they should", () => {
  test.each(["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])("(%s) are renewed at once", async (code) => {
    answer = (_, number) => (number === 1 ? new Response(errorOf(code), { status: 400 }) : new Response("body"));
    const response = await client().call({ method: "GET", key: "k" });
    expect(await response.text()).toBe("body");
    expect(keysAsked()).toEqual(["key-0", "key-1"]);
  });

  test("are renewed after a HEAD too, whose answer does not say so", async () => {
    answer = (_, number) => new Response(null, { status: number === 1 ? 400 : 404 });
    expect(await headObject(client(), "k")).toBeUndefined();
    expect(keysAsked()).toEqual(["key-0", "key-1"]);
  });

  test("are not asked for more than five times", async () => {
    answer = () => new Response(errorOf("ExpiredToken"), { status: 400 });
    const failure = await client()
      .call({ method: "GET", key: "k" })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "unavailable" });
    expect(String(failure)).not.toContain("planted");
    expect(asked).toHaveLength(5);
  });
});

describe("a clock that is wrong", () => {
  const wrong = () => Date.now() - 3_600_000;
  const times = () => asked.map(({ headers }) => headers.get("x-amz-date") ?? "");

  test("is set by the server's, once", async () => {
    answer = (_, number) =>
      number === 1 ? new Response(errorOf("RequestTimeTooSkewed"), { status: 403 }) : new Response("");
    const own = client(wrong);
    await own.call({ method: "GET", key: "k" });
    await own.call({ method: "GET", key: "k" });
    const [first, second, third] = times();
    expect(second).not.toBe(first);
    expect(third?.slice(0, 11)).toBe(second?.slice(0, 11) ?? "");
    expect(asked).toHaveLength(3);
  });

  test("is no reason to go on for ever", async () => {
    answer = () => new Response(errorOf("RequestTimeTooSkewed"), { status: 403 });
    const failure = await client(wrong)
      .call({ method: "GET", key: "k", once: true })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "unavailable" });
    expect(asked).toHaveLength(2);
  });

  test("that is right is left alone when a HEAD is forbidden", async () => {
    answer = () => new Response(null, { status: 403 });
    const failure = await headObject(client(), "k").catch((error: unknown) => error);
    expect(String(failure)).toContain("is its access key right, and may it use the bucket?");
    expect(asked).toHaveLength(1);
  });
});

describe("an XML answer", () => {
  test("that is broken off is asked for again", async () => {
    answer = (_, number) => new Response(number < 3 ? "<List><Key>a</K" : "<List><Key>a</Key></List>");
    expect((await client().callXml({ method: "GET" })).name).toBe("List");
    expect(asked).toHaveLength(3);
  });

  test("of 200 that is an error is one", async () => {
    answer = () => new Response(errorOf("AccessDenied"));
    const failure = await client()
      .callXml({ method: "GET" })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: "S3Refusal", s3Code: "AccessDenied" });
    expect(asked).toHaveLength(1);
  });

  test("without an end is cut, and is none", async () => {
    const chunk = new TextEncoder().encode("<a>".repeat(100_000));
    let sent = 0;
    answer = () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            sent += chunk.byteLength;
            controller.enqueue(chunk);
          },
        }),
      );
    const failure = await client()
      .callXml({ method: "GET", once: true })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "unavailable" });
    expect(sent).toBeLessThan(64 * 1024 * 1024);
  });
});

test("odd characters of a key arrive as they are", async () => {
  answer = () => new Response("");
  const key = "a b/c+d&e=f?g#h%/é'(1)*~";
  await client().call({ method: "GET", key, query: { prefix: "x y+z&" } });
  const [request] = asked;
  const url = new URL(request?.url ?? "");
  expect(decodeURIComponent(url.pathname)).toBe(`/b/${key}`);
  expect(url.search).toBe("?prefix=x%20y%2Bz%26");
});

test("a 404 means the object only when it says so", async () => {
  const meanings = [
    ["NoSuchKey", true],
    ["NoSuchUpload", true],
    ["NoSuchBucket", false],
    // versitygw answers so when it does not know the access key.
    ["XAdminUserNotFound", false],
  ] as const;
  for (const [code, wanted] of meanings) {
    answer = () => new Response(errorOf(code), { status: 404 });
    const failure = await client()
      .call({ method: "GET", key: "k" })
      .catch((error: unknown) => error);
    expect(isMissing(failure)).toBe(wanted);
  }
});
