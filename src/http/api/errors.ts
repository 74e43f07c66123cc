/** The API error module: how each code looks on /api/v1, in Quay's envelope. Source: quay-api reference, section 1.3. */

import { decisionOf } from "../../domain/explain/rules.ts";
import type { ErrorCode, RegistryError } from "../../errors.ts";

type ErrorType =
  | "external_service_timeout"
  | "invalid_request"
  | "invalid_response"
  | "invalid_token"
  | "expired_token"
  | "insufficient_scope"
  | "fresh_login_required"
  | "exceeds_license"
  | "not_found"
  | "downstream_issue"
  /** Berth's own: none of Quay's fits a request that collides with what is there. */
  | "conflict";

interface Wire {
  readonly status: number;
  /** Undefined: a plain `{message}`, as Quay answers there. */
  readonly type?: ErrorType;
  readonly detail: string;
}

const badRequest = (detail: string): Wire => ({ status: 400, type: "invalid_request", detail });
const notFound: Wire = { status: 404, type: "not_found", detail: "Not Found" };

const WIRE: Record<ErrorCode, Wire> = {
  blob_unknown: notFound,
  blob_upload_invalid: badRequest("blob upload invalid"),
  blob_upload_unknown: notFound,
  blob_too_large: badRequest("blob is too large"),
  blob_in_use: { status: 409, type: "conflict", detail: "blob is used by a manifest" },
  digest_invalid: badRequest("invalid digest"),
  manifest_blob_unknown: badRequest("blob unknown to registry"),
  manifest_invalid: badRequest("manifest invalid"),
  manifest_too_large: badRequest("manifest is too large"),
  manifest_unknown: notFound,
  manifest_unsupported_type: badRequest("manifest type not supported"),
  name_invalid: badRequest("invalid name"),
  name_unknown: notFound,
  range_invalid: badRequest("invalid range"),
  size_invalid: badRequest("the body is not as long as announced"),
  tag_expired: notFound,
  tag_immutable: { status: 409, type: "conflict", detail: "tag is immutable" },
  tag_invalid: badRequest("invalid tag"),
  unauthorized: { status: 401, type: "invalid_token", detail: "Requires authentication" },
  denied: { status: 403, type: "insufficient_scope", detail: "Unauthorized" },
  namespace_disabled: { status: 403, type: "insufficient_scope", detail: "Unauthorized" },
  registry_readonly: { status: 503, detail: "System is currently read-only." },
  request_too_large: { status: 413, type: "invalid_request", detail: "the body is too large" },
  too_many_logins: { status: 429, detail: "Too many login attempts." },
  too_many_requests: { status: 429, detail: "too many requests" },
  method_not_allowed: { status: 405, detail: "The method is not allowed for the requested URL." },
  not_found: notFound,
  unsupported: badRequest("not supported"),
  invalid_request: badRequest("invalid request"),
  conflict: { status: 409, type: "conflict", detail: "the request conflicts with what is there" },
  repository_not_normal: { status: 503, detail: "Repository is in read only or mirror mode" },
  token_expired: { status: 401, type: "expired_token", detail: "Token has expired" },
  session_required: { status: 401, type: "invalid_token", detail: "Requires authentication" },
  fresh_login_required: { status: 401, type: "fresh_login_required", detail: "Requires fresh login" },
  csrf_invalid: { status: 403, type: "insufficient_scope", detail: "CSRF token was invalid or missing." },
  not_implemented: { status: 501, detail: "not implemented" },
  gone: { status: 410, type: "not_found", detail: "Gone" },
  captcha_failed: { status: 400, detail: "Are you a bot? If not, please revalidate the captcha." },
  mail_failed: { status: 400, detail: "the mail could not be sent" },
  external_service_timeout: { status: 520, type: "external_service_timeout", detail: "another service did not answer" },
  downstream_issue: { status: 520, type: "downstream_issue", detail: "another service failed" },
  storage_full: { status: 507, detail: "no space is left in the registry's storage" },
  unavailable: { status: 503, detail: "the registry cannot serve this now" },
};

/** Titles and explanations for `GET /error/{type}`. */
export const ERROR_TYPES: Record<ErrorType, string> = {
  external_service_timeout: "A service that this request depends on did not answer in time.",
  invalid_request: "The request is not one that can be carried out: a field is missing or has a wrong value.",
  invalid_response: "The server made an answer that is not as it describes itself.",
  invalid_token: "No valid credentials came with the request.",
  expired_token: "The OAuth token of the request has expired.",
  insufficient_scope: "The credentials are valid and do not allow this request.",
  fresh_login_required: "This change asks for the password again: sign in anew or verify the password.",
  exceeds_license: "The plan of this namespace does not allow more.",
  not_found: "There is nothing here, or nothing that may be seen with these credentials.",
  downstream_issue: "A service that this request depends on failed.",
  conflict: "The request collides with what is there.",
};

/** Seconds after which a client may try again what failed because a part of us was away. */
const RETRY_AFTER_SECONDS = "5";

/** The answer to a failed request. `detail` of the error is the extra payload. */
export function renderApiError(error: RegistryError, baseUrl: string): Response {
  const wire = WIRE[error.code];
  const text = error.worded ? error.message : wire.detail;
  const headers = { ...error.headers };
  if (wire.status === 503) headers["Retry-After"] ??= RETRY_AFTER_SECONDS;
  if (error.code === "too_many_logins") {
    return new Response(text, {
      status: wire.status,
      headers: { ...headers, "Content-Type": "text/plain; charset=utf-8" },
    });
  }
  if (wire.type === undefined) {
    const extra = error.code === "registry_readonly" ? { is_readonly: true } : {};
    return Response.json({ message: text, ...extra }, { status: wire.status, headers });
  }
  const decision = decisionOf(error.code);
  const body = {
    detail: text,
    error_message: text,
    error_type: wire.type,
    title: wire.type,
    type: `${baseUrl}/api/v1/error/${wire.type}`,
    status: wire.status,
    ...(decision === undefined ? {} : { decision }),
    ...error.detail,
  };
  return Response.json(body, { status: wire.status, headers });
}

/** `{"message": …}`, as Quay answers data-model errors outside the API's own blueprint. */
export function renderMessage(error: RegistryError): Response {
  const status = error.code === "unavailable" ? 503 : WIRE[error.code].status;
  const message = error.worded || error.code !== "unavailable" ? error.message : "not now";
  return Response.json({ message }, { status, headers: error.headers });
}
