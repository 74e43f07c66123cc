/**
 * A reader at work: a directory in which the README's commands are run as they stand, the programs they start, and the images
 * that were pushed on the way. Only addresses are other ones, because a test may not count on a port being free.
 */
import { expect } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildBinary } from "../../scripts/build.ts";
import type { PeerServer } from "../support/docker-registry.ts";
import { startNginxWith } from "../support/nginx.ts";
import { freePort, type RunningProcess, startProcess } from "../support/process.ts";
import { digestOf, type PushedImage, RegistryClient } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { requireTool } from "../support/tools.ts";

const startMs = 60_000;
const repository = "admin/app";

export class Walk {
  readonly #dir: { readonly path: string; remove(): void };
  readonly #addresses = new Map<string, string>();
  readonly #pushed = new Map<string, PushedImage>();
  readonly #running: RunningProcess[] = [];
  readonly #balancers: PeerServer[] = [];
  readonly #password: string;
  /** Where the commands are run. */
  readonly here: string;

  /** Opens a directory with the single binary on its PATH. */
  static async begin(name: string, password: string): Promise<Walk> {
    const walk = new Walk(name, password);
    const binary = process.env.TEST_BERTH_BINARY ?? (await buildBinary(join(walk.#dir.path, "berth-binary")));
    symlinkSync(binary, join(walk.#dir.path, "bin", "berth"));
    return walk;
  }

  private constructor(name: string, password: string) {
    this.#dir = makeTempDir(name);
    this.#password = password;
    this.here = join(this.#dir.path, "here");
    for (const each of ["here", "bin"]) mkdirSync(join(this.#dir.path, each));
    const images = join(this.#dir.path, "images");
    const storage = `[storage]\ndriver = "vfs"\ngraphroot = "${images}"\nrunroot = "${images}-run"\n`;
    writeFileSync(join(this.#dir.path, "storage.conf"), storage);
    writeFileSync(join(this.#dir.path, "auth.json"), "{}");
  }

  /** Names an address of the README's that is another one here. Longer ones are replaced first. */
  replace(text: string, here: string): void {
    this.#addresses.set(text, here);
  }

  /** A free port in place of `address`, which is given as `HOST:PORT`. */
  async give(address: string): Promise<string> {
    const given = `127.0.0.1:${await freePort()}`;
    this.replace(address, given);
    return given;
  }

  /** The text as it is here. */
  local(text: string): string {
    const known = [...this.#addresses.keys()].sort((a, b) => b.length - a.length);
    const pattern = new RegExp(known.map((each) => each.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&")).join("|"), "g");
    return known.length === 0 ? text : text.replaceAll(pattern, (each) => this.#addresses.get(each) ?? each);
  }

  /** Runs commands in one shell, which stops at the first failure, and gives what they printed. */
  async run(commands: string): Promise<string> {
    const script = this.local(commands);
    const child = startProcess({
      command: requireTool("bash"),
      args: ["-euo", "pipefail", "-c", script],
      cwd: this.here,
      env: this.#environment(),
      name: "bash",
    });
    const code = await child.exited;
    await child.stop();
    const output = child.stdout() + child.stderr();
    if (code !== 0) throw new Error(`ended with ${code}:\n${script}\n${output}`);
    return output;
  }

  /** Starts `berth …` as a program of its own and waits until it listens. */
  async start(line: string, env: Record<string, string> = {}): Promise<RunningProcess> {
    const [, ...args] = this.local(line).trim().split(" ");
    const child = startProcess({
      command: join(this.#dir.path, "bin", "berth"),
      args,
      cwd: this.here,
      env: { ...this.#environment(), BERTH_ADMIN_PASSWORD: this.#password, ...env },
      name: line.trim(),
    });
    this.#running.push(child);
    await child.waitForLine(/"msg":\s*"listening"/, startMs);
    return child;
  }

  /** nginx with a server block in its http section, where Debian's own configuration includes `conf.d`. */
  async startBalancer(serverBlock: string, address: string): Promise<void> {
    const http = serverBlock.replace("listen 8080;", `listen ${address};`);
    this.#balancers.push(await startNginxWith(http, Number(new URL(`http://${address}`).port)));
  }

  /** Takes over a program that was started elsewhere, so that it is stopped with the others. */
  keep(child: RunningProcess): void {
    this.#running.push(child);
  }

  /** A client of the registry behind the README's address. */
  client(address: string): RegistryClient {
    return new RegistryClient({ url: `http://${this.local(address)}`, username: "admin", password: this.#password });
  }

  /** Pushes an image under a tag and remembers it. */
  async push(address: string, tag: string): Promise<void> {
    const image = await this.client(address).pushImage(repository, tag, { layers: 2, layerBytes: 300_000 });
    expect([tag, image.response.status]).toEqual([tag, 201]);
    this.#pushed.set(tag, image);
  }

  /** Pulls everything that was pushed and compares every byte's digest. */
  async pullAll(address: string): Promise<void> {
    const client = this.client(address);
    for (const [tag, image] of [...this.#pushed]) {
      const manifest = await client.pullManifest(repository, tag);
      const read = digestOf(new Uint8Array(await manifest.arrayBuffer()));
      expect([tag, manifest.status, read]).toEqual([tag, 200, image.descriptor.digest]);
      for (const { digest } of [image.config, ...image.layers]) {
        const blob = await client.pullBlob(repository, digest);
        const found = digestOf(new Uint8Array(await blob.arrayBuffer()));
        expect([tag, blob.status, found]).toEqual([tag, 200, digest]);
      }
    }
  }

  /** Pulls again and again until the function it gives is called, which tells how often and throws when one pull failed. */
  pullOn(address: string): () => Promise<number> {
    let isOver = false;
    let rounds = 0;
    const pulling = (async () => {
      while (!isOver) {
        await this.pullAll(address);
        rounds++;
      }
    })();
    // Told by whoever asks for the outcome; until then it is nobody's unhandled rejection.
    pulling.catch(() => undefined);
    return async () => {
      isOver = true;
      await pulling;
      return rounds;
    };
  }

  /** Stops what was started, the last first, and removes the directory. */
  async end(): Promise<void> {
    for (const balancer of this.#balancers) await balancer.stop();
    for (const child of this.#running.reverse()) await child.stop(startMs);
    this.#dir.remove();
  }

  #environment(): Record<string, string> {
    return {
      PATH: `${join(this.#dir.path, "bin")}:${process.env.PATH}`,
      HOME: this.#dir.path,
      // podman's images and log-ins are this walk's own.
      CONTAINERS_STORAGE_CONF: join(this.#dir.path, "storage.conf"),
      REGISTRY_AUTH_FILE: join(this.#dir.path, "auth.json"),
      BUILDAH_ISOLATION: "chroot",
      no_proxy: "*",
    };
  }
}
