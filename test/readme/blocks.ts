/** The README's blocks that tests hold it to: `<!-- kind: name -->` on the line before a fenced block. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { rootDir } from "../../scripts/parts.ts";

export const readme = readFileSync(join(rootDir, "README.md"), "utf8");

/** `run`: as it stands, by a shell; `start`: each line a program that goes on running; `check`: what else is held true. */
export type BlockKind = "run" | "start" | "check";

/** The text of a block. Throws when there is none of that name. */
export function block(kind: BlockKind, name: string): string {
  const text = new RegExp(`^<!-- ${kind}: ${name} -->\\n\`\`\`[a-z]+\\n([\\s\\S]*?)^\`\`\`$`, "m").exec(readme)?.[1];
  if (text === undefined) throw new Error(`the README has no block "${kind}: ${name}"`);
  return text;
}
