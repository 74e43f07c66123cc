/** Making a repository by name, through the API. What a push makes by itself is `repository.ts`. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { isNamespaceName, isRepositoryName, type ParsedRepositoryPath, repositoryPath } from "../../oci/names.ts";
import { decideCreate } from "../access/access.ts";
import type { Caller } from "../access/actor.ts";
import { findNamespaceFacts, type NamespaceFacts, type RepositoryFacts } from "../access/facts.ts";
import { namespaceDisabled } from "../access/refusal.ts";
import { readonly, refused } from "../access/require.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { createRepository } from "./repository.ts";

/** Longest description, in UTF-16 units: a page of text, not a place to keep files. */
export const DESCRIPTION_CHARS_MAX = 65_536;

export interface CreateByName {
  /** The caller's own by default. */
  namespace: string | undefined;
  name: string;
  visibility: "public" | "private";
  description: string;
  kind: RepositoryFacts["kind"];
}

/**
 * Makes a repository. Throws `unauthorized` or `denied` when the caller may not, also for a namespace that is not there,
 * then `invalid_request` in Quay's words: quay-api reference, section 7.
 */
export async function createRepositoryByName(
  app: Pick<App, "config" | "db" | "lookup" | "clock">,
  caller: Caller,
  input: CreateByName,
  request: RequestOrigin,
): Promise<ParsedRepositoryPath> {
  const wanted = input.namespace ?? caller.principal?.username;
  if (wanted === undefined) throw invalid("Must provide a namespace or must be logged in.");
  const namespace = await requireCreatable(app, caller, wanted);
  if (!isRepositoryName(input.name, { extended: app.config.FEATURE_EXTENDED_REPOSITORY_NAMES })) {
    throw invalid("Invalid repository name");
  }
  requireDescription(input.description);
  const { visibility, kind, description } = input;
  const parsed = {
    path: repositoryPath(namespace.name, input.name),
    namespace: namespace.name,
    name: input.name,
  };
  const isMade = await createRepository(app, { parsed, namespace, caller, request, visibility, kind, description });
  if (!isMade) throw invalid("Repository already exists");
  return parsed;
}

async function requireCreatable(
  app: Pick<App, "config" | "db">,
  caller: Caller,
  name: string,
): Promise<NamespaceFacts> {
  const { FEATURE_ANONYMOUS_ACCESS, FEATURE_SUPERUSERS_FULL_ACCESS, REGISTRY_STATE } = app.config;
  // DISABLE_PUSHES is about content: an empty repository is none.
  const policy = { FEATURE_ANONYMOUS_ACCESS, FEATURE_SUPERUSERS_FULL_ACCESS, REGISTRY_STATE, DISABLE_PUSHES: false };
  const facts = isNamespaceName(name) ? await findNamespaceFacts(app.db, name, caller.principal) : undefined;
  const decision = decideCreate(policy, caller, facts);
  if (decision.allowed && facts) return facts;
  if (decision.rule === "registry-readonly") throw readonly();
  if (decision.rule === "namespace-disabled") throw namespaceDisabled(name);
  if (decision.rule === "restricted-user") {
    throw new RegistryError("denied", {
      message: "Operation not allowed on restricted user owned namespace",
      detail: { decision: decision.rule },
    });
  }
  throw refused(caller, decision.rule);
}

/** Throws `invalid_request` for a description beyond the bound. */
export function requireDescription(description: string): void {
  if (description.length <= DESCRIPTION_CHARS_MAX) return;
  throw invalid(`The description has ${description.length} characters, at most ${DESCRIPTION_CHARS_MAX} are kept`);
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
