import { describe, expect, test } from "bun:test";
import { PassingFailure } from "../remote/retry.ts";
import { errorOf, isExpired, readError, S3Refusal } from "./errors.ts";

const context = { name: "S3Storage", bucket: "blobs", region: "us-east-1", nowMs: 0 };

function judge(status: number, code?: string, more = "", headers: Record<string, string> = {}) {
  const body = code === undefined ? "" : `<Error><Code>${code}</Code><Message>Why it is so.</Message>${more}</Error>`;
  return errorOf(new Response(null, { status, headers }), readError(body), context);
}

describe("is tried again", () => {
  const passing: [number, string | undefined][] = [
    [503, "SlowDown"],
    [503, "ServiceUnavailable"],
    [500, "InternalError"],
    [502, undefined],
    [504, undefined],
    [429, "TooManyRequests"],
    [408, undefined],
    [400, "RequestTimeout"],
    [409, "OperationAborted"],
    [403, "RequestTimeTooSkewed"],
    [400, "ExpiredToken"],
    // Cut or spoilt on the way: what is sent again is whole.
    [400, "IncompleteBody"],
    [400, "BadDigest"],
    [400, "BadRequest"],
    [400, "XAmzContentSHA256Mismatch"],
    // Complete and Copy answer 200 before they know how it ends.
    [200, "InternalError"],
    [200, "SlowDown"],
  ];
  test.each(passing)("%p %p", (status, code) => {
    const error = judge(status, code);
    expect(error).toBeInstanceOf(PassingFailure);
    expect(error.code).toBe("unavailable");
  });

  test("after the time that the store asks for", () => {
    expect(judge(503, "SlowDown", "", { "retry-after": "7" })).toMatchObject({ retryAfterMs: 7000 });
  });
});

describe("is final", () => {
  const final: [number, string | undefined, string, string][] = [
    [403, "AccessDenied", "unavailable", 'refused a request to bucket "blobs" with 403 AccessDenied: Why it is so.'],
    [403, undefined, "unavailable", "is its access key right, and may it use the bucket?"],
    [403, "InvalidAccessKeyId", "unavailable", 'does not know the access key of bucket "blobs"'],
    [403, "SignatureDoesNotMatch", "unavailable", "or its secret is another"],
    [404, "NoSuchBucket", "unavailable", 'S3Storage has no bucket "blobs"'],
    [404, "NoSuchKey", "unavailable", "NoSuchKey"],
    [400, "EntityTooLarge", "unavailable", "400 EntityTooLarge"],
    [400, "InvalidArgument", "unavailable", "400 InvalidArgument"],
    [400, undefined, "unavailable", "400 400"],
    [501, "NotImplemented", "unavailable", "501 NotImplemented"],
    [200, "InvalidPart", "unavailable", "InvalidPart"],
    [507, undefined, "storage_full", 'no space is left in bucket "blobs"'],
    [403, "QuotaExceeded", "storage_full", "QuotaExceeded"],
  ];
  test.each(final)("%p %p", (status, code, registryCode, message) => {
    const error = judge(status, code);
    expect(error).toBeInstanceOf(S3Refusal);
    expect(error).toMatchObject({ code: registryCode, s3Code: code ?? String(status), status });
    expect(error.message).toContain(message);
  });

  test("another region, which the header or the document names", () => {
    const wanted = 'bucket "blobs" is in region "eu-west-1", not in "us-east-1": set s3_region to it';
    expect(judge(301, undefined, "", { "x-amz-bucket-region": "eu-west-1" }).message).toBe(wanted);
    expect(judge(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>").message).toBe(wanted);
  });

  test("another address", () => {
    const { message } = judge(301, "PermanentRedirect", "<Endpoint>blobs.s3.example.com</Endpoint>");
    expect(message).toContain('is reached at "blobs.s3.example.com"');
  });

  test("what a server says is cut short", () => {
    const answer = readError(`<Error><Code>Odd</Code><Message>${"x".repeat(5000)}</Message></Error>`);
    expect(errorOf(new Response(null, { status: 400 }), answer, context).message.length).toBeLessThan(400);
  });
});

test("a body that is no error of S3 says nothing", () => {
  for (const body of ["", "<html>Bad gateway</html>", "<ListBucketResult/>", '{"error":1}']) {
    expect(readError(body).code).toBeUndefined();
  }
  expect(isExpired(readError("<Error><Code>ExpiredToken</Code></Error>"))).toBe(true);
  expect(isExpired(readError("<Error><Code>AccessDenied</Code></Error>"))).toBe(false);
});
