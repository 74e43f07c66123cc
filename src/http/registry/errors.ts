/**
 * The OCI error module: how each code looks on /v2. Spec: distribution-spec "Error Codes"; texts and statuses beside it:
 * quay-api reference, section 19.
 */

import { decisionOf } from "../../domain/explain/rules.ts";
import { type ErrorCode, type ErrorDetail, RegistryError } from "../../errors.ts";

interface WireError {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

const WIRE: Record<ErrorCode, WireError> = {
  blob_unknown: { status: 404, code: "BLOB_UNKNOWN", message: "blob unknown to registry" },
  blob_upload_invalid: { status: 400, code: "BLOB_UPLOAD_INVALID", message: "blob upload invalid" },
  blob_upload_unknown: { status: 404, code: "BLOB_UPLOAD_UNKNOWN", message: "blob upload unknown to registry" },
  blob_too_large: { status: 413, code: "BLOB_UPLOAD_INVALID", message: "blob is too large" },
  blob_in_use: { status: 409, code: "DENIED", message: "blob is used by a manifest" },
  digest_invalid: { status: 400, code: "DIGEST_INVALID", message: "provided digest did not match uploaded content" },
  manifest_blob_unknown: { status: 400, code: "MANIFEST_BLOB_UNKNOWN", message: "blob unknown to registry" },
  manifest_invalid: { status: 400, code: "MANIFEST_INVALID", message: "manifest invalid" },
  manifest_too_large: { status: 413, code: "MANIFEST_INVALID", message: "manifest is too large" },
  manifest_unknown: { status: 404, code: "MANIFEST_UNKNOWN", message: "manifest unknown" },
  manifest_unsupported_type: { status: 415, code: "MANIFEST_INVALID", message: "manifest type not supported" },
  name_invalid: { status: 400, code: "NAME_INVALID", message: "invalid repository name" },
  name_unknown: { status: 404, code: "NAME_UNKNOWN", message: "repository not found" },
  range_invalid: { status: 416, code: "BLOB_UPLOAD_INVALID", message: "requested range not satisfiable" },
  size_invalid: { status: 400, code: "SIZE_INVALID", message: "provided length did not match content length" },
  tag_expired: { status: 404, code: "TAG_EXPIRED", message: "tag was deleted or has expired" },
  tag_immutable: { status: 409, code: "DENIED", message: "tag is immutable" },
  tag_invalid: { status: 400, code: "TAG_INVALID", message: "invalid tag" },
  unauthorized: { status: 401, code: "UNAUTHORIZED", message: "authentication required" },
  denied: { status: 403, code: "DENIED", message: "requested access to the resource is denied" },
  namespace_disabled: { status: 405, code: "DENIED", message: "namespace has been disabled" },
  registry_readonly: { status: 405, code: "DENIED", message: "System is currently read-only." },
  request_too_large: { status: 413, code: "INVALID_REQUEST", message: "request is too large" },
  too_many_logins: { status: 429, code: "TOOMANYREQUESTS", message: "too many login attempts" },
  too_many_requests: { status: 429, code: "TOOMANYREQUESTS", message: "too many requests" },
  method_not_allowed: { status: 405, code: "UNSUPPORTED", message: "the method is not supported here" },
  not_found: { status: 404, code: "NOT_FOUND", message: "there is nothing at this path" },
  unsupported: { status: 405, code: "UNSUPPORTED", message: "the operation is unsupported" },
  invalid_request: { status: 400, code: "INVALID_REQUEST", message: "invalid request" },
  conflict: { status: 409, code: "DENIED", message: "the request conflicts with what is there" },
  repository_not_normal: { status: 403, code: "DENIED", message: "the repository takes no changes" },
  session_required: { status: 401, code: "UNAUTHORIZED", message: "authentication required" },
  token_expired: { status: 401, code: "UNAUTHORIZED", message: "the token has expired" },
  fresh_login_required: { status: 401, code: "UNAUTHORIZED", message: "fresh log-in required" },
  csrf_invalid: { status: 403, code: "DENIED", message: "CSRF token was invalid or missing." },
  not_implemented: { status: 501, code: "UNSUPPORTED", message: "not implemented" },
  gone: { status: 410, code: "UNSUPPORTED", message: "this is gone" },
  captcha_failed: { status: 400, code: "DENIED", message: "the captcha was not answered" },
  mail_failed: { status: 400, code: "UNAVAILABLE", message: "the mail could not be sent" },
  external_service_timeout: { status: 503, code: "UNAVAILABLE", message: "another service did not answer" },
  downstream_issue: { status: 503, code: "UNAVAILABLE", message: "another service failed" },
  storage_full: { status: 507, code: "UNAVAILABLE", message: "no space is left in the registry's storage" },
  unavailable: { status: 503, code: "UNAVAILABLE", message: "the registry cannot serve this now" },
};

/** Seconds after which a client may try again what failed because a part of us was away. */
const RETRY_AFTER_SECONDS = "5";

/** The answer to a failed /v2 request. `isHead` leaves the body out. */
export function renderRegistryError(error: RegistryError, challenge: string | undefined, isHead: boolean): Response {
  const wire = WIRE[error.code];
  const headers: Record<string, string> = {
    "Content-Type": "application/json",
    "Docker-Distribution-Api-Version": "registry/2.0",
    ...error.headers,
  };
  if (wire.status === 401 && challenge !== undefined) headers["WWW-Authenticate"] = challenge;
  if (wire.status === 503) headers["Retry-After"] ??= RETRY_AFTER_SECONDS;
  // Quay answers a locked-out log-in in plain text, and clients show it as it is.
  if (error.code === "too_many_logins") {
    return new Response(isHead ? null : error.message, {
      status: wire.status,
      headers: { ...headers, "Content-Type": "text/plain; charset=utf-8" },
    });
  }
  const body = {
    errors: [
      {
        code: wire.code,
        message: error.worded ? error.message : wire.message,
        detail: withDecision(error),
        ...(error.code === "registry_readonly" ? { is_readonly: true } : {}),
      },
    ],
  };
  return new Response(isHead ? null : JSON.stringify(body), { status: wire.status, headers });
}

/** A refusal names the rule that decided; `GET /api/v1/explain/{decision}` has its words. */
function withDecision({ code, detail }: RegistryError): ErrorDetail {
  const decision = decisionOf(code);
  return decision === undefined ? detail : { decision, ...detail };
}

/** Anything thrown, as an error with a code: what is unknown is a fault of ours and tells nothing. */
export function toRegistryError(error: unknown): RegistryError {
  return error instanceof RegistryError ? error : new RegistryError("unavailable", { cause: error });
}
