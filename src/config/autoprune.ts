/** An auto-prune policy as the config gives it, and what it has in common with those that are made by the API. */

import { z } from "zod";
import { PatternError } from "../lib/regex-parser.ts";
import { compileTagPattern } from "../lib/tag-pattern.ts";
import { block, durationText, oneOf, optionalBool, optionalText } from "./fields.ts";

/**
 * Keep the newest `value` tags, or end those that began, or were last pulled, longer ago than the duration `value`. The last
 * is ours; a tag that was never pulled counts from its beginning.
 */
export const AUTOPRUNE_METHODS = ["number_of_tags", "creation_date", "last_pull_date"] as const;
/** Most tags that "keep the newest" may name: it is kept as text and shown as a number. */
export const AUTOPRUNE_TAGS_MAX = 2 ** 31 - 1;

const valueError = "must be a number of tags from 1 up, or a duration such as 2w";

/** As the API takes it. What is ignored here, or no time at all, would end tags that nobody wanted gone. */
export const autoprunePolicy = block({
  method: oneOf(AUTOPRUNE_METHODS),
  value: z.union(
    [
      z.int().min(1).max(AUTOPRUNE_TAGS_MAX),
      durationText().refine((value) => !/^0+[a-z]$/.test(value), { error: valueError }),
    ],
    { error: valueError },
  ),
  /** Berth's own, as in the policies of namespaces. */
  tagPattern: optionalText().superRefine((value, context) => {
    const wrong = value === undefined ? undefined : whatIsWrong(value);
    if (wrong !== undefined) context.addIssue({ code: "custom", message: `must be a pattern of tags: ${wrong}` });
  }),
  tagPatternMatches: optionalBool(),
}).refine(({ method, value }) => (typeof value === "number") === (method === "number_of_tags"), {
  error: "must have a number of tags as value for number_of_tags, and a duration such as 2w for the others",
});

/** What keeps a text from being a pattern, undefined when it is one. */
function whatIsWrong(pattern: string): string | undefined {
  if (!/^\S+$/.test(pattern)) return "it is empty or has characters that no tag has";
  try {
    compileTagPattern(pattern);
    return undefined;
  } catch (error) {
    if (error instanceof PatternError) return error.message;
    throw error;
  }
}
