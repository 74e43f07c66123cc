/** podman, buildah and skopeo as root without a container runtime, and how they reach IPv6 by a name. */
import { writeFileSync } from "node:fs";
import { requireTool } from "../support/tools.ts";
import type { ClientLab, Output } from "./lab.ts";

/** A program with the arguments that every call of it needs. */
export interface Client {
  run(...args: string[]): Promise<Output>;
  fail(...args: string[]): Promise<string>;
  /** The same, without the lab's log-ins. */
  anonymous(): Client;
  /** The same, where `berth6.test` is ::1 and nothing else. */
  overIpv6(): Client;
}

/** Plain HTTP; these clients ask for TLS first otherwise. */
export const noTls = "--tls-verify=false";
export const ipv6Name = "berth6.test";

export function podmanIn(lab: ClientLab): Client {
  const own = ["--root", lab.path("images"), "--runroot", lab.path("images-run"), "--tmpdir", lab.path("libpod")];
  return client(lab, [requireTool("podman"), ...own, "--storage-driver=vfs"]);
}

export function buildahIn(lab: ClientLab): Client {
  const own = ["--root", lab.path("images"), "--runroot", lab.path("images-run")];
  return client(lab, [requireTool("buildah"), ...own, "--storage-driver=vfs"]);
}

export function skopeoIn(lab: ClientLab): Client {
  return client(lab, [requireTool("skopeo")]);
}

/** Arguments of a build that needs neither a runtime nor an image from elsewhere. */
export const isolation = "--isolation=chroot";

function client(lab: ClientLab, command: readonly string[], env: Record<string, string> = {}): Client {
  const [program = "", ...own] = command;
  return {
    run: (...args) => lab.run(program, [...own, ...args], env),
    fail: (...args) => lab.fail(program, [...own, ...args], env),
    anonymous: () => client(lab, command, { ...env, REGISTRY_AUTH_FILE: lab.path("no-log-ins.json") }),
    overIpv6: () => client(lab, [...withHosts(lab), ...command], env),
  };
}

/**
 * These clients read no `[::1]` in image names ("invalid reference format", containers/image 5.23), so IPv6 needs a name.
 * /etc/hosts is replaced for them alone, in a mount namespace of their own.
 */
function withHosts(lab: ClientLab): string[] {
  const hosts = lab.path("hosts");
  writeFileSync(hosts, `127.0.0.1 localhost\n::1 ${ipv6Name}\n`);
  const script = `mount --bind "$1" /etc/hosts && shift && exec "$@"`;
  return [requireTool("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, "sh", hosts];
}
