/**
 * Throws mutated valid input and plain noise at every parser: whatever comes, the answer is a value or a RegistryError.
 * The seed is in the names of the tests; set OCI_FUZZ_SEED to run one again.
 */
import { expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { digestOf, findDigest, isDigestLike, parseDigest } from "./digest.ts";
import { parseManifest } from "./manifest.ts";
import { OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, parseMediaType } from "./media-types.ts";
import { isValidEmail, parseNamespaceName, parsePassword, parseRepositoryPath, parseRobotName } from "./names.ts";
import { linkHeader, parsePage } from "./page.ts";
import { parseV2Path } from "./path.ts";
import { parseContentRange, parseRange } from "./range.ts";
import { parseReference } from "./reference.ts";

const SEED = Number(Bun.env.OCI_FUZZ_SEED ?? Date.now() % 2 ** 31);
const ROUNDS = 3000;

/** xorshift32: small, repeatable, good enough to pick mutations. */
function createRandom(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const SNIPPETS = ["/", "//", "..", ".", "%2F", "%2e", "%00", "%", "%C0%AF", "\u0000", "\n", "é", "\ud800", "__proto__"];
SNIPPETS.push("-", "_", "+", ":", "sha256:", "A", "9".repeat(20), "-1", "1e18", "bytes=", ",", '"', "{", "}", "[", "]");
SNIPPETS.push(
  "null",
  '"layers":[],',
  "\\",
  "\\u0000",
  "x".repeat(300),
  " ",
  "@",
  "manifests",
  "blobs/uploads",
  "tags/list",
);

const DIGEST = digestOf("x");
const DESCRIPTOR = { mediaType: OCI_CONFIG, digest: DIGEST, size: 1, data: btoa("x"), annotations: { a: "b" } };
const TEXTS = [
  DIGEST,
  "acme/api/v2",
  "acme+robot",
  "user@example.org",
  "latest",
  "bytes=0-5",
  "bytes 5-9/10",
  "50",
  `/v2/acme/api/manifests/${DIGEST}`,
  "/v2/acme/api/blobs/uploads/",
  "application/json; charset=utf-8",
  JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: DESCRIPTOR, layers: [DESCRIPTOR] }),
  JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [DESCRIPTOR], subject: DESCRIPTOR }),
];

function mutate(text: string, random: (below: number) => number): string {
  let mutated = text;
  for (let left = random(4); left > 0; left -= 1) {
    const at = random(mutated.length + 1);
    const snippet = SNIPPETS[random(SNIPPETS.length)] ?? "";
    mutated = mutated.slice(0, at) + snippet + mutated.slice(at + random(3));
  }
  return mutated;
}

const PARSERS: Record<string, (text: string) => unknown> = {
  parseDigest,
  findDigest,
  isDigestLike,
  parseReference,
  parseNamespaceName,
  parseRobotName,
  parsePassword,
  isValidEmail,
  parseRepositoryPath: (text) => parseRepositoryPath(text, { extended: true, libraryNamespace: "library" }),
  parseV2Path,
  parseMediaType,
  parseContentRange,
  parseRange: (text) => parseRange(text, 1000),
  parsePage: (text) => parsePage({ n: text, last: text }, { limitDefault: 50, limitMax: 100 }),
  linkHeader: (text) => linkHeader(text, { last: text }),
  parseManifest: (text) => parseManifest(Buffer.from(text), undefined),
  parseManifestAs: (text) => parseManifest(Buffer.from(text), OCI_MANIFEST),
  parseContentType: (text) => parseManifest(Buffer.from(TEXTS[11] ?? ""), text),
};

test(`parsers throw nothing but RegistryError (seed ${SEED})`, () => {
  const random = createRandom(SEED);
  for (let round = 0; round < ROUNDS; round += 1) {
    const text = mutate(TEXTS[random(TEXTS.length)] ?? "", random);
    for (const [name, parse] of Object.entries(PARSERS)) {
      try {
        parse(text);
      } catch (error) {
        if (!(error instanceof RegistryError)) throw new Error(`${name}(${JSON.stringify(text)})`, { cause: error });
        expect(error.message).not.toMatch(/\p{Cc}/u);
        expect(error.message.length).toBeLessThan(700);
      }
    }
  }
});

test(`noise as manifest gives RegistryError (seed ${SEED})`, () => {
  const random = createRandom(SEED);
  for (let round = 0; round < ROUNDS; round += 1) {
    const bytes = Uint8Array.from({ length: random(60) }, () => random(256));
    expect(() => parseManifest(bytes, OCI_MANIFEST)).toThrow(RegistryError);
  }
});

test(`a route's parts never hold what would make them another path (seed ${SEED})`, () => {
  const random = createRandom(SEED);
  for (let round = 0; round < ROUNDS; round += 1) {
    const text = mutate(`/v2/acme/api/manifests/${DIGEST}`, random);
    try {
      const route = parseV2Path(text);
      if (!("name" in route)) continue;
      expect(`/${route.name}/`).not.toMatch(/\/\.{0,2}\//);
      // Reading the decoded spelling again gives the same route, unless it holds a "%" of its own.
      const rest = route.kind === "manifest" ? `manifests/${route.reference}` : undefined;
      if (rest && !`${route.name}${rest}`.includes("%"))
        expect(parseV2Path(`/v2/${route.name}/${rest}`)).toEqual(route);
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
    }
  }
});
