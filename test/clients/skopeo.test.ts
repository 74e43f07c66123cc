/** skopeo against the real server: log-in, copies in and out and across, inspect, list, delete, over IPv4 and IPv6. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { mediaTypes } from "../support/registry-client.ts";
import { type Client, ipv6Name, noTls, skopeoIn } from "./containers.ts";
import { adminPassword, type ClientLab, startLab, testTimeoutMs } from "./lab.ts";

// Layers that are not compressed would be on their way, which changes the digest.
const exactly = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"];
const largeLayerBytes = 64 * 1024 * 1024;
let lab: ClientLab;
let skopeo: Client;

beforeAll(async () => {
  lab = await startLab({ listen: "[::]:0" });
  skopeo = skopeoIn(lab);
  await skopeo.run("login", noTls, "-u", "admin", "-p", adminPassword, lab.host);
}, testTimeoutMs);

afterAll(() => lab?.stop(), testTimeoutMs);

/** An image name as skopeo has it. */
function at(name: string): string {
  return `docker://${lab.host}/admin/${name}`;
}

/** Tags of one of admin's repositories by `skopeo list-tags`. */
async function tagsOf(repository: string): Promise<string[]> {
  const { stdout } = await skopeo.run("list-tags", noTls, at(repository));
  return (JSON.parse(stdout) as { Tags: string[] }).Tags;
}

test(
  "login says whether the password is right",
  async () => {
    await lab.berthUser("create", "sara");
    const refused = await skopeo.fail("login", noTls, "-u", "sara", "-p", "not-her-password", lab.host);
    expect(refused).toContain("invalid username/password");
    const accepted = await skopeo.run("login", noTls, "-u", "admin", "-p", adminPassword, lab.host);
    expect(accepted.text).toContain("Login Succeeded!");
  },
  testTimeoutMs,
);

test(
  "an image is inspected, copied to another repository and to disk, and back, with one digest",
  async () => {
    const image = await lab.admin.pushImage("admin/source", "v1", { layers: 3, layerBytes: 100_000 });
    const { digest } = image.descriptor;
    const inspected = JSON.parse((await skopeo.run("inspect", noTls, at("source:v1"))).stdout) as {
      Digest: string;
      Layers: string[];
      RepoTags: string[];
    };
    expect(inspected.Digest).toBe(digest);
    expect(inspected.Layers).toEqual(image.layers.map((layer) => layer.digest));
    expect(inspected.RepoTags).toEqual(["v1"]);
    const raw = await skopeo.run("inspect", "--raw", noTls, at(`source@${digest}`));
    expect(raw.stdout).toBe(new TextDecoder().decode(image.manifest));
    const config = await skopeo.run("inspect", "--config", "--raw", noTls, at("source:v1"));
    expect(JSON.parse(config.stdout)).toMatchObject({ architecture: "amd64", os: "linux" });

    await skopeo.run("copy", ...exactly, at("source:v1"), at("copy/deep/below:v2"));
    expect((await lab.manifest("admin/copy/deep/below", "v2")).digest).toBe(digest);
    await skopeo.run(
      "copy",
      "--src-tls-verify=false",
      "--preserve-digests",
      at("source:v1"),
      `oci:${lab.path("layout")}:v1`,
    );
    await skopeo.run(
      "copy",
      "--dest-tls-verify=false",
      "--preserve-digests",
      `oci:${lab.path("layout")}:v1`,
      at("returned:v1"),
    );
    expect((await lab.manifest("admin/returned", "v1")).digest).toBe(digest);
    for (const layer of image.layers) {
      expect((await lab.admin.pullBlob("admin/returned", layer.digest)).status).toBe(200);
    }
  },
  testTimeoutMs,
);

test(
  "an image is stored as the docker schema 2 that it was turned into",
  async () => {
    await lab.admin.pushImage("admin/oci-image", "v1");
    const digestFile = lab.path("docker.digest");
    const args = [
      "copy",
      "--src-tls-verify=false",
      "--dest-tls-verify=false",
      "--format",
      "v2s2",
      "--digestfile",
      digestFile,
    ];
    await skopeo.run(...args, at("oci-image:v1"), at("docker-image:v1"));
    const stored = await lab.manifest("admin/docker-image", "v1");
    expect(stored.mediaType).toBe("application/vnd.docker.distribution.manifest.v2+json");
    expect(stored.digest).toBe(readFileSync(digestFile, "utf8"));
  },
  testTimeoutMs,
);

test(
  "an index is copied with all that it names, and one of its images alone",
  async () => {
    const architectures = ["amd64", "arm64"];
    const manifests = [];
    for (const architecture of architectures) {
      const { descriptor } = await lab.admin.pushImage("admin/index", architecture);
      manifests.push({ ...descriptor, platform: { architecture, os: "linux" } });
    }
    const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests };
    expect((await lab.admin.pushManifest("admin/index", "all", index, mediaTypes.index)).status).toBe(201);
    await skopeo.run("copy", "--all", ...exactly, at("index:all"), at("index-copy:all"));
    expect((await lab.manifest("admin/index-copy", "all")).json.manifests).toEqual(manifests);
    for (const { digest } of manifests) {
      expect((await lab.manifest("admin/index-copy", digest)).digest).toBe(digest);
    }
    const one = ["copy", "--override-arch", "arm64", ...exactly];
    await skopeo.run(...one, at("index:all"), at("index-one:v1"));
    expect((await lab.manifest("admin/index-one", "v1")).digest).toBe(manifests[1]?.digest ?? "");
  },
  testTimeoutMs,
);

test(
  "tags are listed, and deleting an image takes every tag of it and no other",
  async () => {
    const first = await lab.admin.pushImage("admin/tags", "v1");
    await lab.admin.pushManifest("admin/tags", "latest", first.manifest);
    await lab.admin.pushImage("admin/tags", "v2");
    expect(await tagsOf("tags")).toEqual(["latest", "v1", "v2"]);
    await skopeo.run("delete", noTls, at("tags:v1"));
    expect(await tagsOf("tags")).toEqual(["v2"]);
    expect(await skopeo.fail("inspect", noTls, at("tags:latest"))).toContain("Tag latest was deleted");
    expect(await skopeo.fail("delete", noTls, at("tags:v1"))).toContain("Image may not exist");
  },
  testTimeoutMs,
);

test(
  "everything of a repository is synchronized to disk",
  async () => {
    await lab.admin.pushImage("admin/sync", "v1");
    await lab.admin.pushImage("admin/sync", "v2");
    const source = `${lab.host}/admin/sync`;
    await skopeo.run("sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir", source, lab.path("synced"));
    for (const tag of ["v1", "v2"]) {
      const copied = readFileSync(lab.path("synced", `sync:${tag}`, "manifest.json"), "utf8");
      expect(copied).toBe((await lab.manifest("admin/sync", tag)).text);
    }
  },
  testTimeoutMs,
);

test(
  "rights hold: no login sees public repositories alone, a robot what it was given",
  async () => {
    await lab.admin.pushImage("admin/private", "v1");
    await lab.admin.pushImage("admin/public", "v1");
    await lab.berthUser("publish", "admin/public");
    const anonymous = skopeo.anonymous();
    expect((await anonymous.run("list-tags", noTls, at("public"))).stdout).toContain("v1");
    expect(await anonymous.fail("list-tags", noTls, at("private"))).toMatch(/unauthorized/i);
    expect(await anonymous.fail("delete", noTls, at("public:v1"))).toMatch(/unauthorized/i);

    const token = await lab.berthUser("robot", "admin+reader");
    const credentials = ["--creds", `admin+reader:${token}`];
    expect(await anonymous.fail("inspect", noTls, ...credentials, at("private:v1"))).toMatch(/unauthorized/i);
    await lab.berthUser("grant", "admin+reader", "admin/private", "--role", "read");
    await anonymous.run("inspect", noTls, ...credentials, at("private:v1"));
    expect(await anonymous.fail("delete", noTls, ...credentials, at("private:v1"))).toMatch(/unauthorized/i);
    expect(await tagsOf("private")).toEqual(["v1"]);
  },
  testTimeoutMs,
);

test(
  "one dual-stack server takes a copy from its IPv4 to its IPv6 address",
  async () => {
    const image = await lab.admin.pushImage("admin/four", "v1", { layers: 2 });
    const host6 = `${ipv6Name}:${lab.port}`;
    const over6 = skopeo.overIpv6();
    await over6.run("login", noTls, "-u", "admin", "-p", adminPassword, host6);
    await over6.run("copy", ...exactly, at("four:v1"), `docker://${host6}/admin/six:v1`);
    expect((await lab.manifest("admin/six", "v1")).digest).toBe(image.descriptor.digest);
    await over6.run("inspect", noTls, `docker://${host6}/admin/four:v1`);
  },
  testTimeoutMs,
);

test(
  "a layer of 64 MiB goes through",
  async () => {
    const image = await lab.admin.pushImage("admin/large", "v1", { layerBytes: largeLayerBytes });
    const file = lab.path("large", image.layers[0]?.digest.slice("sha256:".length) ?? "");
    await skopeo.run(
      "copy",
      "--src-tls-verify=false",
      "--preserve-digests",
      at("large:v1"),
      `dir:${lab.path("large")}`,
    );
    expect(statSync(file).size).toBe(largeLayerBytes);
    await skopeo.run(
      "copy",
      "--dest-tls-verify=false",
      "--preserve-digests",
      `dir:${lab.path("large")}`,
      at("large-copy:v1"),
    );
    expect((await lab.manifest("admin/large-copy", "v1")).digest).toBe(image.descriptor.digest);
  },
  testTimeoutMs,
);
