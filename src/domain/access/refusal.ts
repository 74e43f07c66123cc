/** Refusals that more than one room words: the texts are Quay's, quay-api reference, sections 18 and 19. */

import { RegistryError } from "../../errors.ts";

export function namespaceDisabled(namespace: string): RegistryError {
  return new RegistryError("namespace_disabled", {
    message: `Namespace ${namespace} has been disabled. Please contact a system administrator.`,
    detail: { namespace, decision: "namespace-disabled" },
  });
}
