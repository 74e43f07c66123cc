/** Quay's error body of /api/v1. The whole envelope comes with the REST API; today's one route answers `{message}`. */

import type { RegistryError } from "../../errors.ts";

/** `400 {"message": …}`, as Quay answers data-model errors. Source: quay-api reference, section 1.3. */
export function renderMessage(error: RegistryError): Response {
  const status = STATUS[error.code] ?? 400;
  return Response.json({ message: error.message }, { status, headers: error.headers });
}

const STATUS: Partial<Record<RegistryError["code"], number>> = {
  unavailable: 503,
  storage_full: 503,
  too_many_requests: 429,
  request_too_large: 413,
};
