/** Forms as browsers post them. */

import { RegistryError } from "../errors.ts";
import { readBody } from "./registry/body.ts";

const FORM_BYTES_MAX = 64 * 1024;

/** The fields of a posted form. Throws `invalid_request` for another media type, `request_too_large` beyond 64 KiB. */
export async function readForm(request: Request): Promise<URLSearchParams> {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/x-www-form-urlencoded") {
    throw new RegistryError("invalid_request", { message: "Send the form as application/x-www-form-urlencoded" });
  }
  return new URLSearchParams(new TextDecoder().decode(await readBody(request, FORM_BYTES_MAX)));
}
