/**
 * The upstream OCI conformance suite against the real server: every row of its report is Pass, and the single tests behind
 * the rows have no failure, error or skip. The reports stay in test-results/conformance-VERSION-DATABASE/.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { describeGoClient } from "../clients/go-client.ts";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { runProcess } from "../support/process.ts";

const username = "conformance";
const password = "conformance-password";
const resultsDir = join(import.meta.dir, "..", "..", "test-results");
const database = process.env.TEST_DB || "sqlite";
const runTimeoutMs = 180_000;

/** `dev` is the draft; what it brings and 1.1 does not have yet is off in a run of 1.1, and nothing else may be. */
const versions = [
  { version: "dev", rowsMin: 50, testsMin: 1000, off: [] },
  {
    version: "1.1",
    rowsMin: 46,
    testsMin: 880,
    off: ["Blob upload cancel", "Manifest put with tag params", "Tag Param", "Tag Param sha512"],
  },
];

const reportSchema = z.object({
  config: z.object({ version: z.string(), data: z.record(z.string(), z.boolean()) }),
  apis: z.record(z.string(), z.string()),
  data: z.record(z.string(), z.string()),
});

await describeGoClient("conformance", (program) => {
  let berth: BerthServer;

  beforeAll(async () => {
    berth = await startBerth({
      config: { FEATURE_SPARSE_MANIFEST: true, FEATURE_USER_INITIALIZE: true, SUPER_USERS: [username] },
    });
    const response = await fetch(`${berth.url}/api/v1/user/initialize`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username, password, email: "conformance@registry.test" }),
    });
    expect(response.status).toBe(200);
  }, runTimeoutMs);

  afterAll(() => berth?.stop(), runTimeoutMs);

  for (const { version, rowsMin, testsMin, off } of versions) {
    test(
      `every row of version ${version} passes`,
      async () => {
        const dir = join(resultsDir, `conformance-${version}-${database}`);
        rmSync(dir, { recursive: true, force: true });
        mkdirSync(dir, { recursive: true });
        // A blob in a bucket is fetched from there: the draft's header is on our answer, which says where, and not on the last.
        const more: Record<string, string> = berth.store.isLocal ? {} : { OCI_API_BLOBS_DIGEST_HEADER: "false" };
        const failure = await runSuite(program, berth.host, version, dir, more);
        const report = reportSchema.parse(Bun.YAML.parse(readFileSync(join(dir, "results.yaml"), "utf8")));
        expect(report.config).toMatchObject({ version, data: { sparse: true } });

        const rows = Object.entries({ ...report.apis, ...report.data });
        const others = rows.filter(([, result]) => result !== "Pass");
        expect(others).toEqual(off.map((name) => [name, "Disabled"]));
        expect(rows.length - others.length).toBeGreaterThanOrEqual(rowsMin);

        const tests = readJunit(readFileSync(join(dir, "junit.xml"), "utf8"));
        expect(tests).toMatchObject({ failures: 0, errors: 0, skipped: 0 });
        expect(tests.total).toBeGreaterThanOrEqual(testsMin);
        expect(failure).toBeUndefined();
      },
      runTimeoutMs,
    );
  }
});

/** Runs it; gives its complaint when it did not end with 0, so that the report, which says more, is judged first. */
async function runSuite(
  program: string,
  host: string,
  version: string,
  dir: string,
  more: Record<string, string>,
): Promise<string | undefined> {
  const settings = {
    OCI_REGISTRY: host,
    OCI_TLS: "disabled",
    OCI_REPO1: `${username}/first-${version}`,
    OCI_REPO2: `${username}/second-${version}`,
    OCI_USERNAME: username,
    OCI_PASSWORD: password,
    OCI_VERSION: version,
    OCI_DATA_SPARSE: "true",
    OCI_RESULTS_DIR: dir,
    ...more,
  };
  return runProcess({ command: program, cwd: dir, env: settings, timeoutMs: runTimeoutMs }).then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

/** Counts of the suite's single tests. */
function readJunit(xml: string): { total: number; failures: number; errors: number; skipped: number } {
  const opening = /<testsuites?\b[^>]*>/.exec(xml)?.[0] ?? "";
  const attribute = (name: string) => Number(new RegExp(`\\b${name}="([0-9]+)"`).exec(opening)?.[1] ?? 0);
  return {
    total: attribute("tests"),
    failures: attribute("failures") + (xml.match(/<failure\b/g)?.length ?? 0),
    errors: attribute("errors") + (xml.match(/<error\b/g)?.length ?? 0),
    skipped: attribute("skipped") + (xml.match(/<skipped\b/g)?.length ?? 0),
  };
}
