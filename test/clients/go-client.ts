/** Declares the tests of a client that only Go brings: run where Go is at hand, else listed as "not run: needs Go". */
import { describe, test } from "bun:test";
import { findGoTool, type GoTool } from "../support/go-tools.ts";
import { findTool } from "../support/tools.ts";

/** Installs the client when it is missing. Where Go is at hand and that does not work, the run fails with the reason. */
export async function describeGoClient(name: GoTool, tests: (path: string) => void): Promise<void> {
  const found = await findGoTool(name);
  if (found.kind === "found") {
    describe(name, () => tests(found.path));
  } else if (findTool("go") !== undefined) {
    test(`${name} is installed`, () => {
      throw new Error(found.reason);
    });
  } else {
    console.log(`${name}: ${found.reason}`);
    test.skip(`${name}: ${found.reason}`, () => undefined);
  }
}
