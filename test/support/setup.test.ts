/** The set-up and the tests name what is missing by its Debian package. */
import { expect, test } from "bun:test";
import { missingPackages } from "./setup.ts";
import { debianPackageOf, requireTool } from "./tools.ts";

test("missing programs are named by their Debian packages, each once", () => {
  expect(missingPackages(["sh"])).toEqual([]);
  expect(missingPackages(["sh", "no-such-program", "no-such-program", "also-missing"])).toEqual([
    "also-missing",
    "no-such-program",
  ]);
  expect(["dockerd", "ip", "podman", "unshare"].map(debianPackageOf)).toEqual([
    "docker.io",
    "iproute2",
    "podman",
    "util-linux",
  ]);
});

test("a program that is needed and missing is an error with the command that installs it", () => {
  expect(() => requireTool("no-such-program")).toThrow("apt-get install no-such-program");
});
