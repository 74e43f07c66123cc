import { expect, test } from "bun:test";
import { PassingFailure } from "../remote/retry.ts";
import { errorOf, readError, S3Refusal } from "./errors.ts";

const context = { name: "S3Storage", bucket: "blobs", region: "us-east-1", nowMs: 0 };
const answer = (status: number, code?: string) =>
  errorOf(
    new Response(null, { status }),
    readError(code === undefined ? "" : `<Error><Code>${code}</Code></Error>`),
    context,
  );

test("what passes is tried again: throttling, faults of the server, and requests that were cut or spoilt on their way", () => {
  for (const [status, code] of [
    [503, "SlowDown"],
    [500, undefined],
    [200, "InternalError"],
    [400, "RequestTimeout"],
    [400, "IncompleteBody"],
    [400, "BadDigest"],
    [400, "BadRequest"],
    [400, "XAmzContentSHA256Mismatch"],
    [400, "ExpiredToken"],
  ] as const) {
    expect(answer(status, code), `${status} ${code}`).toBeInstanceOf(PassingFailure);
  }
});

test("what is wrong stays wrong", () => {
  for (const [status, code] of [
    [403, "AccessDenied"],
    [403, "SignatureDoesNotMatch"],
    [404, "NoSuchBucket"],
    [400, "InvalidArgument"],
    [400, undefined],
  ] as const) {
    const error = answer(status, code);
    expect(error, `${status} ${code}`).toBeInstanceOf(S3Refusal);
    expect(error.code).toBe("unavailable");
  }
  expect(answer(507).code).toBe("storage_full");
});
