/** `berth version`: the release and the runtime it was built with. */

import { VERSION } from "../version.ts";
import { EXIT } from "./invocation.ts";

export function printVersion(): number {
  process.stdout.write(`berth ${VERSION} (bun ${Bun.version}, ${process.platform} ${process.arch})\n`);
  return EXIT.ok;
}
