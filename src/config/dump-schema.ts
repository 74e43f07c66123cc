/** The schema of config.yaml as JSON Schema, for tools and the config dump. Made when it is asked for: that takes a while. */

import { z } from "zod";
import { configShape } from "./schema.ts";

/** What may be written under each key. Throws nothing; what JSON Schema has no word for is left open. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  return z.toJSONSchema(z.object(configShape), { io: "input", unrepresentable: "any" });
}
