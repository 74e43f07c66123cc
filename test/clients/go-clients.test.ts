/** The clients that only Go brings, against one dual-stack server: crane, oras, regctl, helm and cosign. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { digestOf, mediaTypes, toBytes } from "../support/registry-client.ts";
import { describeGoClient } from "./go-client.ts";
import { adminPassword, type ClientLab, startLab, testTimeoutMs } from "./lab.ts";

let lab: ClientLab;
/** The same server by its IPv6 address, which these clients read in image names. */
let host6: string;

beforeAll(async () => {
  lab = await startLab({ listen: "[::]:0" });
  host6 = `[::1]:${lab.port}`;
}, testTimeoutMs);

afterAll(() => lab?.stop(), testTimeoutMs);

/** Writes a file into the client's folder and gives the name by which it is found there. */
function write(name: string, content: string | Uint8Array): string {
  mkdirSync(dirname(lab.path(name)), { recursive: true });
  writeFileSync(lab.path(name), content);
  return name;
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

await describeGoClient("crane", (program) => {
  const crane = async (...args: string[]) => lines((await lab.run(program, ["--insecure", ...args])).stdout);
  const login = (host: string) => crane("auth", "login", "-u", "admin", "-p", adminPassword, host);

  test(
    "crane pushes, changes, copies, lists, pulls and deletes",
    async () => {
      await login(lab.host);
      await login(host6);
      const source = `${lab.host}/admin/crane`;
      const { dir } = lab.buildContext("crane");
      await lab.run("tar", ["-cf", "layer.tar", "-C", dir, "."]);
      await crane("append", "--oci-empty-base", "-f", "layer.tar", "-t", `${source}:v1`);
      const stored = await lab.manifest("admin/crane", "v1");
      expect(await crane("digest", `${source}:v1`)).toEqual([stored.digest ?? ""]);
      expect((await crane("manifest", `${source}:v1`)).join("\n")).toBe(stored.text.trimEnd());

      await crane("mutate", "--annotation", "purpose=test", "-t", `${source}:changed`, `${source}:v1`);
      expect((await lab.manifest("admin/crane", "changed")).json.annotations).toEqual({ purpose: "test" });
      await crane("copy", `${source}:v1`, `${host6}/admin/crane-copy/below:v1`);
      expect((await lab.manifest("admin/crane-copy/below", "v1")).text).toBe(stored.text);
      await crane("tag", `${source}:v1`, "latest");
      expect(await crane("ls", source)).toEqual(["changed", "latest", "v1"]);
      expect(await crane("catalog", lab.host)).toEqual(
        expect.arrayContaining(["admin/crane", "admin/crane-copy/below"]),
      );

      await crane("pull", "--format", "oci", `${source}:v1`, "crane-layout");
      await crane("push", "crane-layout", `${lab.host}/admin/crane-again:v1`);
      expect((await lab.manifest("admin/crane-again", "v1")).digest).toBe(stored.digest);
      await crane("validate", "--remote", `${lab.host}/admin/crane-again:v1`);
      await crane("delete", `${source}:changed`);
      expect(await crane("ls", source)).toEqual(["latest", "v1"]);
      await crane("delete", `${source}@${stored.digest}`);
      expect(await crane("ls", source)).toEqual([]);
    },
    testTimeoutMs,
  );

  test(
    "crane reads a public repository without login and no private one",
    async () => {
      await lab.admin.pushImage("admin/crane-public", "v1");
      await lab.admin.pushImage("admin/crane-private", "v1");
      await lab.berthUser("publish", "admin/crane-public");
      const nobody = { DOCKER_CONFIG: lab.path("nobody"), REGISTRY_AUTH_FILE: lab.path("no-log-ins.json") };
      const digest = (repository: string) => ["--insecure", "digest", `${lab.host}/admin/${repository}:v1`];
      await lab.run(program, digest("crane-public"), nobody);
      expect(await lab.fail(program, digest("crane-private"), nobody)).toMatch(/unauthorized/i);
    },
    testTimeoutMs,
  );
});

await describeGoClient("oras", (program) => {
  const oras = async (...args: string[]) => (await lab.run(program, [...args])).stdout;

  test(
    "oras pushes and pulls files, attaches others and discovers them by type",
    async () => {
      const login = ["login", "--plain-http", "-u", "admin", "-p", adminPassword];
      expect(await oras(...login, lab.host)).toContain("Login Succeeded");
      await oras(...login, host6);
      const name = `${lab.host}/admin/oras:v1`;
      const content = randomBytes(50_000);
      write("oras/data.bin", content);
      write("oras/sbom.json", JSON.stringify({ packages: [] }));
      write("oras/scan.txt", "nothing found");
      const type = "application/vnd.berth.test";
      await oras("push", "--plain-http", "--artifact-type", `${type}+data`, name, "oras/data.bin");
      expect((await lab.manifest("admin/oras", "v1")).json.artifactType).toBe(`${type}+data`);
      const attach = ["attach", "--plain-http", "--artifact-type"];
      await oras(...attach, `${type}+sbom`, name, "oras/sbom.json:application/json");
      await oras(...attach, `${type}+scan`, `${host6}/admin/oras:v1`, "oras/scan.txt:text/plain");

      const discover = async (...args: string[]) => {
        const found = JSON.parse(await oras("discover", "--plain-http", "--format", "json", ...args, name)) as {
          referrers: { artifactType: string }[];
        };
        return found.referrers.map((each) => each.artifactType).sort();
      };
      expect(await discover()).toEqual([`${type}+sbom`, `${type}+scan`]);
      expect(await discover("--artifact-type", `${type}+sbom`)).toEqual([`${type}+sbom`]);
      await oras("pull", "--plain-http", "-o", "oras-pulled", `${host6}/admin/oras:v1`);
      expect(readFileSync(lab.path("oras-pulled", "oras", "data.bin")).equals(content)).toBe(true);

      await oras("cp", "-r", "--from-plain-http", "--to-plain-http", name, `${lab.host}/admin/oras-copy:v1`);
      const { digest } = await lab.manifest("admin/oras", "v1");
      const copied = (await (await lab.admin.listReferrers("admin/oras-copy", digest ?? "")).json()) as {
        manifests: unknown[];
      };
      expect(copied.manifests.length).toBe(2);
      expect(lines(await oras("repo", "tags", "--plain-http", `${lab.host}/admin/oras`))).toEqual(["v1"]);
      await oras("manifest", "delete", "--plain-http", "--force", name);
      expect((await lab.admin.pullManifest("admin/oras", "v1")).status).toBe(404);
    },
    testTimeoutMs,
  );
});

await describeGoClient("regctl", (program) => {
  const regctl = async (...args: string[]) => lines((await lab.run(program, args)).stdout);

  test(
    "regctl copies images, lists and removes single tags, shows referrers and pushes a blob in chunks",
    async () => {
      for (const host of [lab.host, host6]) {
        await regctl("registry", "set", "--skip-check", "--tls", "disabled", host);
        await regctl("registry", "login", host, "-u", "admin", "-p", adminPassword);
      }
      const image = await lab.admin.pushImage("admin/regctl", "v1", { layers: 2 });
      const { descriptor } = image;
      await regctl("image", "copy", `${lab.host}/admin/regctl:v1`, `${host6}/admin/regctl-copy:v1`);
      await regctl("image", "copy", `${lab.host}/admin/regctl:v1`, `${lab.host}/admin/regctl-copy:v2`);
      expect(await regctl("tag", "ls", `${lab.host}/admin/regctl-copy`)).toEqual(["v1", "v2"]);
      // The other tag of the same manifest must stay.
      await regctl("tag", "rm", `${lab.host}/admin/regctl-copy:v2`);
      expect(await regctl("tag", "ls", `${lab.host}/admin/regctl-copy`)).toEqual(["v1"]);
      expect((await lab.manifest("admin/regctl-copy", "v1")).digest).toBe(descriptor.digest);

      const type = "application/vnd.berth.test+note";
      const note = write("note.txt", "a note");
      const subject = `${lab.host}/admin/regctl:v1`;
      await regctl("artifact", "put", "--artifact-type", type, "--file", note, "--subject", subject);
      expect((await regctl("artifact", "tree", subject)).join("\n")).toContain(type);
      const listed = await regctl("artifact", "list", subject, "--format", "{{json .Descriptors}}");
      expect(JSON.parse(listed.join("")) as unknown[]).toMatchObject([{ artifactType: type }]);

      const chunkBytes = 64 * 1024;
      await regctl("registry", "set", "--blob-chunk", `${chunkBytes}`, "--blob-max", `${chunkBytes}`, lab.host);
      const content = randomBytes(10 * chunkBytes + 1);
      write("chunked.bin", content);
      const put = `exec "$0" blob put "$1" < chunked.bin`;
      const { stdout } = await lab.run("sh", ["-c", put, program, `${lab.host}/admin/regctl`]);
      expect(stdout.trim()).toBe(digestOf(content));
      const blob = await lab.admin.pullBlob("admin/regctl", digestOf(content));
      expect(digestOf(await blob.bytes())).toBe(digestOf(content));
    },
    testTimeoutMs,
  );
});

await describeGoClient("helm", (program) => {
  const helm = (...args: string[]) => lab.run(program, args);

  test(
    "helm pushes a chart, shows it and pulls it again",
    async () => {
      write("chart/Chart.yaml", "apiVersion: v2\nname: harbour\ndescription: A test chart\nversion: 1.2.3+build.4\n");
      write("chart/templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: harbour\n");
      await helm("package", "chart");
      const login = await helm("registry", "login", "--plain-http", "-u", "admin", "-p", adminPassword, lab.host);
      expect(login.text).toContain("Login Succeeded");
      const pushed = await helm("push", "--plain-http", "harbour-1.2.3+build.4.tgz", `oci://${lab.host}/admin/charts`);
      // A tag has no "+", so helm writes "_" for it.
      const stored = await lab.manifest("admin/charts/harbour", "1.2.3_build.4");
      expect(pushed.text).toContain(stored.digest ?? "no digest");
      expect(stored.json.config?.mediaType).toBe("application/vnd.cncf.helm.config.v1+json");
      const chart = [`oci://${lab.host}/admin/charts/harbour`, "--version", "1.2.3+build.4", "--plain-http"];
      expect((await helm("show", "chart", ...chart)).stdout).toContain("description: A test chart");
      mkdirSync(lab.path("helm-pulled"));
      await helm("pull", ...chart, "-d", "helm-pulled");
      const pulled = readFileSync(lab.path("helm-pulled", "harbour-1.2.3+build.4.tgz"));
      expect(pulled.equals(readFileSync(lab.path("harbour-1.2.3+build.4.tgz")))).toBe(true);
    },
    testTimeoutMs,
  );
});

await describeGoClient("cosign", (program) => {
  const plainHttp = ["--allow-http-registry", "--allow-insecure-registry"];
  /** Nothing outside is asked: no transparency log, no configuration from it. */
  const offline = ["--tlog-upload=false", "--use-signing-config=false", ...plainHttp];
  const cosign = (...args: string[]) => lab.run(program, args, { COSIGN_PASSWORD: "key-password", COSIGN_YES: "true" });
  const verify = (image: string, ...args: string[]) =>
    cosign("verify", "--key", "cosign.pub", "--insecure-ignore-tlog", ...plainHttp, ...args, image);
  /** Pushes an image with a name of its own and gives its full name by digest. */
  const pushImage = async (repository: string): Promise<{ name: string; digest: string }> => {
    const { digest } = (await lab.admin.pushImage(repository, "v1")).descriptor;
    return { digest, name: `${lab.host}/${repository}@${digest}` };
  };

  beforeAll(async () => {
    const auths = { [lab.host]: { auth: Buffer.from(`admin:${adminPassword}`).toString("base64") } };
    write("docker/config.json", JSON.stringify({ auths }));
    await cosign("generate-key-pair");
  }, testTimeoutMs);

  test(
    "a signature is kept as a referrer and verified",
    async () => {
      const { name, digest } = await pushImage("admin/signed");
      await expect(verify(name)).rejects.toThrow(/no signatures found|no matching/);
      await cosign("sign", "--key", "cosign.key", ...offline, "-a", "made-by=test", name);
      expect((await verify(name)).text).toContain("signatures were verified against the specified public key");
      const { manifests } = (await (await lab.admin.listReferrers("admin/signed", digest)).json()) as {
        manifests: { artifactType: string }[];
      };
      expect(manifests.map((each) => each.artifactType)).toEqual(["application/vnd.dev.sigstore.bundle.v0.3+json"]);
      const other = await pushImage("admin/not-signed");
      await expect(verify(other.name)).rejects.toThrow(/no signatures found|no matching/);
    },
    testTimeoutMs,
  );

  test(
    "a signature under the older tag is kept and verified",
    async () => {
      const { name, digest } = await pushImage("admin/signed-by-tag");
      await cosign("sign", "--key", "cosign.key", ...offline, "--new-bundle-format=false", name);
      const tag = `${digest.replace(":", "-")}.sig`;
      const stored = await lab.manifest("admin/signed-by-tag", tag);
      expect(stored.mediaType).toBe(mediaTypes.manifest);
      expect(digestOf(toBytes(stored.text))).toBe(stored.digest ?? "");
      expect((await verify(name, "--new-bundle-format=false")).text).toContain("signatures were verified");
    },
    testTimeoutMs,
  );

  test(
    "an attestation is attached and verified",
    async () => {
      const { name } = await pushImage("admin/attested");
      const predicate = write("predicate.json", JSON.stringify({ scanned: true }));
      await cosign("attest", "--key", "cosign.key", ...offline, "--predicate", predicate, name);
      const args = ["--key", "cosign.pub", "--insecure-ignore-tlog", ...plainHttp];
      await cosign("verify-attestation", ...args, name);
    },
    testTimeoutMs,
  );
});
