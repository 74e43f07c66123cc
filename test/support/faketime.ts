/** Gives a program another clock: a library of Debian's `faketime` that stands between it and the kernel's answers. */

import { runProcess } from "./process.ts";
import { requireTool } from "./tools.ts";

/**
 * Environment of a program whose clock goes `seconds` ahead of ours, or behind with a negative number. What measures how long
 * something takes is left alone. Throws with the package to install when there is none.
 */
export async function clockAhead(seconds: number): Promise<Record<string, string>> {
  const offset = `${seconds < 0 ? "" : "+"}${seconds}s`;
  // Where the library lies, the program knows.
  const { stdout } = await runProcess({ command: requireTool("faketime"), args: ["-f", offset, "env"] });
  const library = /^LD_PRELOAD=(.+)$/m.exec(stdout)?.[1];
  if (library === undefined) throw new Error(`faketime sets no LD_PRELOAD: ${stdout}`);
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
}
