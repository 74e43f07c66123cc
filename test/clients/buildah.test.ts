/** buildah against the real server: log-in, build from nothing, push in every format and compression, indexes. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, mediaTypes, toBytes } from "../support/registry-client.ts";
import { buildahIn, type Client, isolation, noTls } from "./containers.ts";
import { adminPassword, type ClientLab, startLab, testTimeoutMs } from "./lab.ts";

let lab: ClientLab;
let buildah: Client;

beforeAll(async () => {
  lab = await startLab();
  buildah = buildahIn(lab);
  await buildah.run("login", noTls, "-u", "admin", "-p", adminPassword, lab.host);
}, testTimeoutMs);

afterAll(() => lab?.stop(), testTimeoutMs);

/** Builds an image of one random file under a name of this machine and gives the file's content. */
async function build(name: string, ...args: string[]): Promise<string> {
  const { dir, content } = lab.buildContext(name);
  await buildah.run("build", isolation, ...args, "-t", `localhost/${name}`, dir);
  return content;
}

/** Pulls a repository's tag anew and gives what is in its file. */
async function pullContent(repositoryTag: string): Promise<string> {
  const name = `${lab.host}/${repositoryTag}`;
  await buildah.run("rmi", "--all", "--force");
  await buildah.run("pull", noTls, name);
  const container = (await buildah.run("from", "--pull-never", name)).stdout.trim();
  try {
    const mounted = (await buildah.run("mount", container)).stdout.trim();
    return readFileSync(join(mounted, "content.txt"), "utf8");
  } finally {
    await buildah.run("rm", container);
  }
}

test(
  "login says when the password is wrong",
  async () => {
    await lab.berthUser("create", "bruno");
    const refused = await buildah.fail("login", noTls, "-u", "bruno", "-p", "not-his-password", lab.host);
    expect(refused).toContain("invalid username/password");
  },
  testTimeoutMs,
);

test(
  "an image made without a Containerfile is committed, pushed and pulled",
  async () => {
    const { dir, content } = lab.buildContext("by-hand");
    const container = (await buildah.run("from", "scratch")).stdout.trim();
    await buildah.run("copy", container, join(dir, "content.txt"), "/content.txt");
    await buildah.run("config", "--label", "made=by-hand", container);
    await buildah.run("commit", container, "localhost/by-hand");
    await buildah.run("rm", container);
    await buildah.run("push", noTls, "localhost/by-hand", `docker://${lab.host}/admin/by-hand:v1`);
    expect(await pullContent("admin/by-hand:v1")).toBe(content);
  },
  testTimeoutMs,
);

for (const compression of ["gzip", "zstd", "zstd:chunked"]) {
  test(
    `layers compressed with ${compression} are kept so and pulled again`,
    async () => {
      const short = compression.replace(":", "-");
      const content = await build(short);
      const target = `docker://${lab.host}/admin/${short}:v1`;
      await buildah.run("push", noTls, "--compression-format", compression, `localhost/${short}`, target);
      const { json } = await lab.manifest(`admin/${short}`, "v1");
      const [layer] = json.layers ?? [];
      expect(layer?.mediaType).toBe(`${mediaTypes.layer}+${compression.replace(":chunked", "")}`);
      const annotations = Object.keys(layer?.annotations ?? {});
      expect(annotations.some((name) => name.startsWith("io.containers.zstd-chunked."))).toBe(short === "zstd-chunked");
      const blob = await lab.admin.pullBlob(`admin/${short}`, layer?.digest ?? "");
      expect(digestOf(await blob.bytes())).toBe(layer?.digest ?? "");
      expect(await pullContent(`admin/${short}:v1`)).toBe(content);
    },
    testTimeoutMs,
  );
}

test(
  "docker schema 2 and OCI of one image are stored as they were pushed",
  async () => {
    const content = await build("formats");
    const types = { docker: "application/vnd.docker.distribution.manifest.v2+json", oci: mediaTypes.manifest };
    for (const [format, mediaType] of Object.entries(types)) {
      const digestFile = lab.path(`${format}.digest`);
      const target = `docker://${lab.host}/admin/formats:${format}`;
      await buildah.run("push", noTls, "--format", format, "--digestfile", digestFile, "localhost/formats", target);
      const stored = await lab.manifest("admin/formats", format);
      expect(stored.mediaType).toBe(mediaType);
      expect(stored.digest).toBe(readFileSync(digestFile, "utf8"));
      expect(digestOf(toBytes(stored.text))).toBe(stored.digest ?? "");
    }
    expect(await pullContent("admin/formats:docker")).toBe(content);
  },
  testTimeoutMs,
);

test(
  "a docker manifest list and an OCI index are pushed with all they name",
  async () => {
    const list = "localhost/architectures";
    for (const architecture of ["amd64", "arm64", "s390x"]) {
      const { dir } = lab.buildContext(`for-${architecture}`);
      await buildah.run("build", isolation, "--arch", architecture, "--manifest", list, dir);
    }
    const push = (...args: string[]) => buildah.run("manifest", "push", "--all", noTls, ...args);
    await push(list, `docker://${lab.host}/admin/many:oci`);
    await push("--format", "v2s2", list, `docker://${lab.host}/admin/many:docker`);
    const index = await lab.manifest("admin/many", "oci");
    expect(index.mediaType).toBe(mediaTypes.index);
    expect(index.json.manifests?.map((each) => each.platform?.architecture)).toEqual(["amd64", "arm64", "s390x"]);
    const dockerList = await lab.manifest("admin/many", "docker");
    expect(dockerList.mediaType).toBe("application/vnd.docker.distribution.manifest.list.v2+json");
    for (const child of dockerList.json.manifests ?? []) {
      expect((await lab.manifest("admin/many", child.digest)).mediaType).toBe(child.mediaType);
    }
  },
  testTimeoutMs,
);
