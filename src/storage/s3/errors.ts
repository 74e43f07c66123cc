/** What S3 servers answer when they refuse, and what becomes of it. Codes: the S3 API reference, "Error responses". */

import { type ErrorCode, RegistryError } from "../../errors.ts";
import { isPassingStatus, passingAnswer } from "../remote/request.ts";
import { parseXml, textOf, type XmlElement } from "./xml.ts";

/** An answer that is final. `s3Code` is the server's own, or the status when it named none. */
export class S3Refusal extends RegistryError {
  readonly status: number;
  readonly s3Code: string;

  constructor(code: ErrorCode, message: string, status: number, s3Code: string) {
    super(code, { message });
    this.name = "S3Refusal";
    this.status = status;
    this.s3Code = s3Code;
  }
}

/** Codes that say "not now", whatever the status beside them: Complete and Copy tell them in a 200. */
const PASSING_CODES: ReadonlySet<string> = new Set([
  // These four were cut or spoilt on their way: what is sent again is whole.
  "BadDigest",
  "BadRequest",
  "IncompleteBody",
  "XAmzContentSHA256Mismatch",
  "InternalError",
  "OperationAborted",
  "RequestTimeout",
  "RequestTimeTooSkewed",
  "ServiceUnavailable",
  "SlowDown",
  "SlowDownRead",
  "SlowDownWrite",
  "ThrottlingException",
  "TooManyRequests",
]);
/** The session's credentials have run out: fresh ones make the same request right. */
const CREDENTIAL_CODES: ReadonlySet<string> = new Set(["ExpiredToken", "TokenRefreshRequired", "InvalidToken"]);
const FULL_CODES: ReadonlySet<string> = new Set(["QuotaExceeded", "XMinioStorageFull", "EntityTooLargeForStorage"]);

export interface AnswerContext {
  /** The engine's name in messages. */
  readonly name: string;
  readonly bucket: string;
  readonly region: string;
  readonly nowMs: number;
}

export interface S3Answer {
  readonly code: string | undefined;
  readonly message: string | undefined;
  readonly document: XmlElement | undefined;
}

/** What the body of an error says; a HEAD's has none. */
export function readError(body: string): S3Answer {
  const document = parseXml(body);
  if (document?.name !== "Error") return { code: undefined, message: undefined, document };
  return { code: textOf(document, "Code"), message: textOf(document, "Message"), document };
}

export function isExpired({ code }: S3Answer): boolean {
  return code !== undefined && CREDENTIAL_CODES.has(code);
}

/** The error of an answer: one that may pass, or one that is final. */
export function errorOf(response: Response, answer: S3Answer, context: AnswerContext): RegistryError {
  const { status } = response;
  const { code } = answer;
  if (isPassingStatus(status) || (code !== undefined && PASSING_CODES.has(code)) || isExpired(answer)) {
    return passingAnswer(context.name, response, context.nowMs, code);
  }
  const s3Code = code ?? String(status);
  if (status === 507 || FULL_CODES.has(s3Code)) {
    return new S3Refusal("storage_full", `no space is left in bucket "${context.bucket}": ${s3Code}`, status, s3Code);
  }
  return new S3Refusal("unavailable", explain(response, answer, s3Code, context), status, s3Code);
}

/** Says what an operator has to change, where the answer tells. */
function explain(
  response: Response,
  answer: S3Answer,
  s3Code: string,
  { name, bucket, region }: AnswerContext,
): string {
  const elsewhere = response.headers.get("x-amz-bucket-region") ?? textOf(answer.document, "Region");
  if (elsewhere !== undefined && elsewhere !== "" && elsewhere !== region) {
    return `bucket "${bucket}" is in region "${elsewhere}", not in "${region}": set s3_region to it`;
  }
  if (response.status >= 300 && response.status < 400) {
    const endpoint = textOf(answer.document, "Endpoint") ?? response.headers.get("location") ?? "another address";
    return `bucket "${bucket}" is reached at "${endpoint}": set the engine's host or s3_region to it`;
  }
  if (s3Code === "NoSuchBucket") return `${name} has no bucket "${bucket}"`;
  if (s3Code === "InvalidAccessKeyId" || s3Code === "SignatureDoesNotMatch") {
    return `${name} does not know the access key of bucket "${bucket}", or its secret is another: ${s3Code}`;
  }
  if (answer.code === undefined && (response.status === 401 || response.status === 403)) {
    return `${name} refused a request to bucket "${bucket}" with ${response.status}: is its access key right, and may it use the bucket?`;
  }
  const said = answer.message === undefined ? "" : `: ${answer.message.slice(0, 200)}`;
  return `${name} refused a request to bucket "${bucket}" with ${response.status} ${s3Code}${said}`;
}
