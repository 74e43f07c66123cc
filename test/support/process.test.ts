/** The process runner against real children, and the registry client against a real registry without our own code. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startDockerRegistry } from "./docker-registry.ts";
import { listeningPorts, processTree, runProcess, startProcess } from "./process.ts";
import { describeResponse, digestOf, RegistryClient } from "./registry-client.ts";

const bun = process.execPath;

test("waits for a line, tells the port and the memory of what it started, and stops it", async () => {
  const code = `const s = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hi") }); console.log("port " + s.port);`;
  const child = startProcess({ command: bun, args: ["-e", code] });
  const port = Number((await child.waitForLine(/^port \d+$/)).slice("port ".length));
  await child.waitForUrl(`http://127.0.0.1:${port}/`);
  expect(listeningPorts(child.pid)).toEqual([port]);
  const memory = child.memory();
  expect(memory.rssBytes).toBeGreaterThan(5_000_000);
  expect(memory.peakRssBytes).toBeGreaterThanOrEqual(memory.rssBytes);
  expect(await child.stop()).not.toBe(0);
  expect(existsSync(`/proc/${child.pid}`)).toBe(false);
});

test("a child that ignores SIGTERM is killed after the bound, and its children with it", async () => {
  const code = `process.on("SIGTERM", () => {}); const c = Bun.spawn(["sleep", "60"]); console.log("ready"); setInterval(() => {}, 1000);`;
  const child = startProcess({ command: bun, args: ["-e", code] });
  await child.waitForLine(/^ready$/);
  const tree = processTree(child.pid);
  expect(tree.length).toBe(2);
  await child.stop(200);
  await Bun.sleep(50);
  expect(tree.filter(isRunning)).toEqual([]);
});

test("a child ends with the process that started it, even when that one is killed", async () => {
  const code = `import { startProcess } from ${JSON.stringify(join(import.meta.dir, "process.ts"))};
    console.log("child " + startProcess({ command: "sleep", args: ["60"] }).pid);`;
  const parent = startProcess({ command: bun, args: ["-e", `${code}; setInterval(() => {}, 1000);`] });
  const child = Number((await parent.waitForLine(/^child \d+$/)).slice("child ".length));
  expect(isRunning(child)).toBe(true);
  process.kill(parent.pid, "SIGKILL");
  await parent.exited;
  await Bun.sleep(100);
  expect(isRunning(child)).toBe(false);
  expect(() => startProcess({ command: "no-such-program" })).toThrow(`"no-such-program" is no program`);
});

test("a child that ends too early is reported with its output", async () => {
  const child = startProcess({
    command: bun,
    args: ["-e", `console.error("no config"); process.exit(78);`],
    name: "tiny",
  });
  const failure = await child.waitForLine(/never/).catch((error: Error) => error.message);
  expect(failure).toContain("tiny");
  expect(failure).toContain("ended with 78");
  expect(failure).toContain("no config");
  expect(runProcess({ command: "false" })).rejects.toThrow(`"false" ended with 1`);
});

test("the client pushes in every shape and pulls what it pushed, with and without Basic authentication", async () => {
  for (const user of [undefined, { name: "up", password: "pass word" }]) {
    const server = await startDockerRegistry(user === undefined ? {} : { user });
    try {
      const client = new RegistryClient({
        url: server.url,
        ...(user === undefined ? {} : { username: user.name, password: user.password }),
      });
      for (const shape of ["post-put", "patch", "chunked"] as const) {
        const content = crypto.getRandomValues(new Uint8Array(1000));
        const pushed = await client.pushBlob("acme/api", content, { shape, chunkBytes: 300 });
        expect(`${shape} ${pushed.status}`).toBe(`${shape} 201`);
        const pulled = await client.pullBlob("acme/api", digestOf(content));
        expect(new Uint8Array(await pulled.arrayBuffer())).toEqual(content);
      }
      const image = await client.pushImage("acme/api", "v1", { layers: 2 });
      if (image.response.status !== 201) throw new Error(await describeResponse(image.response));
      const manifest = await client.pullManifest("acme/api", "v1");
      expect(manifest.headers.get("docker-content-digest")).toBe(image.descriptor.digest);
      expect(await (await client.listTags("acme/api")).json()).toEqual({ name: "acme/api", tags: ["v1"] });
      if (user !== undefined) {
        const stranger = new RegistryClient({ url: server.url, username: user.name, password: "wrong" });
        expect((await stranger.pullManifest("acme/api", "v1")).status).toBe(401);
      }
    } finally {
      await server.stop();
    }
    expect(existsSync(server.dataDir)).toBe(false);
  }
}, 30_000);

/** A killed grandchild may stay as a zombie until init takes it; that is not running. */
function isRunning(pid: number): boolean {
  const path = `/proc/${pid}/status`;
  return existsSync(path) && !/^State:\s+Z/m.test(readFileSync(path, "utf8"));
}
