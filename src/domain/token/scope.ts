/** Scopes of the token service: `repository:[host/]namespace/name:pull,push`. Source: quay-api reference, section 18. */

import { RegistryError } from "../../errors.ts";
import { type ParsedRepositoryPath, parseRepositoryPath, type RepositoryPathRules } from "../../oci/names.ts";
import { quoteValue } from "../../oci/quote.ts";
import { REGISTRY_ACTIONS, type RegistryAction } from "../access/actor.ts";

export interface RequestedScope {
  /** The name as it was written, host included: the token repeats it. */
  readonly name: string;
  readonly parsed: ParsedRepositoryPath;
  readonly actions: ReadonlySet<RegistryAction | "*">;
}

/** More scopes than any client asks for at once: a push with mounts names two. */
const SCOPES_MAX = 50;
const GRAMMAR = /^repository:([.a-zA-Z0-9_\-/]+(?::[0-9]+\/[.a-zA-Z0-9_\-/]+)?):([a-z*]+(?:,[a-z*]+)*)?$/;

/**
 * Reads the `scope` parameters; several may stand in one, separated by spaces. Unknown actions are left out. Throws
 * `invalid_request` with Quay's text, or `name_invalid`.
 */
export function parseScopes(
  values: readonly string[],
  rules: RepositoryPathRules & { serverHostname: string | undefined },
): RequestedScope[] {
  const texts = values.flatMap((value) => value.split(" ")).filter((text) => text !== "");
  if (texts.length > SCOPES_MAX) {
    throw new RegistryError("invalid_request", { message: `${texts.length} scopes asked for, at most ${SCOPES_MAX}` });
  }
  return texts.map((text) => parseScope(text, rules)).filter((scope) => scope !== undefined);
}

function parseScope(
  text: string,
  rules: RepositoryPathRules & { serverHostname: string | undefined },
): RequestedScope | undefined {
  // registry:catalog:* is how some clients ask to list; what is listed depends on the account alone.
  if (text.startsWith("registry:")) return undefined;
  const match = GRAMMAR.exec(text);
  const [, name = "", actionText = ""] = match ?? [];
  if (!match) {
    throw new RegistryError("invalid_request", {
      message: `Unable to decode repository and actions: ${quoteValue(text)}`,
    });
  }
  const host = rules.serverHostname === undefined ? "" : `${rules.serverHostname}/`;
  const bare = host !== "" && name.startsWith(host) ? name.slice(host.length) : name;
  const known: readonly string[] = [...REGISTRY_ACTIONS, "*"];
  const actions = new Set(actionText.split(",").filter((action) => known.includes(action)) as RegistryAction[]);
  return { name, parsed: parseRepositoryPath(bare, rules), actions };
}
