/** The release this is, from package.json, which the single binary carries inside. */

import manifest from "../package.json" with { type: "json" };

export const VERSION: string = manifest.version;
