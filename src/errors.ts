/**
 * The one error type that rules, spec code and adapters throw, and the union of all its codes. How a code looks on the
 * wire is decided per surface: `http/registry/errors.ts` for /v2, `http/api/errors.ts` for /api/v1.
 */

/** Every reason a request can be refused for. A new code does not compile until each surface maps it. */
export type ErrorCode =
  | "blob_unknown"
  | "blob_upload_invalid"
  | "blob_upload_unknown"
  | "blob_too_large"
  | "blob_in_use"
  | "digest_invalid"
  | "manifest_blob_unknown"
  | "manifest_invalid"
  | "manifest_too_large"
  | "manifest_unknown"
  | "manifest_unsupported_type"
  | "name_invalid"
  | "name_unknown"
  | "range_invalid"
  | "size_invalid"
  | "tag_expired"
  | "tag_immutable"
  | "tag_invalid"
  | "unauthorized"
  | "denied"
  | "namespace_disabled"
  | "registry_readonly"
  | "request_too_large"
  | "too_many_logins"
  | "too_many_requests"
  | "method_not_allowed"
  | "not_found"
  | "unsupported"
  | "invalid_request"
  | "conflict"
  | "repository_not_normal"
  | "session_required"
  | "token_expired"
  | "fresh_login_required"
  | "csrf_invalid"
  | "not_implemented"
  | "gone"
  | "mail_failed"
  | "captcha_failed"
  | "external_service_timeout"
  | "downstream_issue"
  | "storage_full"
  | "unavailable";

/** Facts about a failure that may be shown to the caller: never a secret, never what the caller may not know. */
export type ErrorDetail = Record<string, string | number | boolean | null | readonly string[]>;

export interface RegistryErrorOptions {
  /** A sentence for the caller: what was tried, the offending value in quotes, what would be right. */
  message?: string;
  /** The message tells the operator what no caller needs to know, such as an address: it is logged and not answered. */
  forLog?: boolean;
  detail?: ErrorDetail;
  /** Headers the answer must carry, such as `Retry-After` or `Range`. */
  headers?: Record<string, string>;
  cause?: unknown;
}

export class RegistryError extends Error {
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;
  readonly headers: Record<string, string>;
  /** True when the thrower worded the message for the caller; otherwise each surface uses its own text for the code. */
  readonly worded: boolean;

  constructor(code: ErrorCode, options: RegistryErrorOptions = {}) {
    super(options.message ?? code, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "RegistryError";
    this.code = code;
    this.detail = options.detail ?? {};
    this.headers = options.headers ?? {};
    this.worded = options.message !== undefined && options.forLog !== true;
  }
}
