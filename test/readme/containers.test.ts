/**
 * The README's compose file for many instances: valid for docker-compose, and started service by service as programs of this
 * machine, with the arguments, environment and files that it gives them. Only addresses and paths are other ones.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { findGoTool } from "../support/go-tools.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { runProcess, startProcess } from "../support/process.ts";
import { requireTool } from "../support/tools.ts";
import { block } from "./blocks.ts";
import { Walk } from "./walk.ts";

setDefaultTimeout(180_000);

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly networks?: { readonly default: { readonly ipv4_address: string } };
}

const names = ["one", "two", "balancer", "postgres", "s3"] as const;
const balancer = "127.0.0.1:8080";
let services: Record<(typeof names)[number], Service>;
let walk: Walk;

const addressOf = (name: "one" | "two") => `${services[name].networks?.default?.ipv4_address}:8080`;

const parse = (name: string) => (Bun.YAML.parse(block("check", name)) as { services: typeof services }).services;

beforeAll(async () => {
  walk = await Walk.begin("containers", "change-me-please");
  services = parse("scale-compose");
});
afterAll(() => walk?.end());

describe("compose files", () => {
  test.each([
    ["scale-compose", names],
    ["compose", ["berth", "postgres"]],
  ])("%s is valid for docker-compose, which asks no engine for that", async (name, expected) => {
    const path = join(walk.here, `${name}.yaml`);
    writeFileSync(path, block("check", name));
    const args = ["-f", path, "config", "--services"];
    const { stdout } = await runProcess({ command: requireTool("docker-compose"), args });
    expect(stdout.trim().split("\n").sort()).toEqual([...expected].sort());
  });

  test("run two alike, with addresses of their own", () => {
    const { networks: first, ...one } = services.one;
    const { networks: second, ...two } = services.two;
    expect(one).toEqual(two);
    expect(first).not.toEqual(second);
  });

  test("give PostgreSQL the account, password and database that Berth asks for", () => {
    const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = services.postgres.environment;
    const uri = `postgresql://${POSTGRES_USER}:${POSTGRES_PASSWORD}@postgres:5432/${POSTGRES_DB}`;
    expect(services.one.environment.QUAY_OVERRIDE_CONFIG).toContain(uri);
  });
});

describe("the services of the larger one", () => {
  test("start: the S3 server with its bucket, and two instances at once", async () => {
    const store = await walk.give("s3:7070");
    walk.replace('"host": "s3", "port": 7070', `"host": "127.0.0.1", "port": ${store.split(":")[1]}`);
    walk.replace("postgresql://berth:secret@postgres:5432/berth", await createTestDatabase());
    walk.replace(`${services.balancer.networks?.default?.ipv4_address}/32`, "127.0.0.1/32");
    writeFileSync(join(walk.here, "balancer.conf"), block("check", "scale-nginx"));
    const [compose, ...before] = block("check", "scale-up").trim().split("\n").reverse();
    expect(compose).toBe("docker compose up -d");
    await walk.run(before.join("\n"));
    await startStore(store);
    for (const name of ["one", "two"] as const) await walk.give(addressOf(name));
    await Promise.all(
      (["one", "two"] as const).map(async (name) => {
        const { environment } = services[name];
        const env = Object.entries(environment).map(([key, value]) => [key, walk.local(value)]);
        await walk.start(
          `berth serve --data data-${name} --listen ${addressOf(name)} --metrics-listen off`,
          Object.fromEntries(env),
        );
      }),
    );
  });

  test("and nginx in front, through which an image is pushed and pulled", async () => {
    expect(services.balancer.ports).toEqual(["8080:8080"]);
    expect(services.balancer.volumes).toEqual(["./balancer.conf:/etc/nginx/conf.d/balancer.conf:ro"]);
    const config = await Bun.file(join(walk.here, "balancer.conf")).text();
    expect(config.match(/^ {2}server 172\.30\.99\.1[12]:8080 /gm)).toHaveLength(2);
    await walk.give(balancer);
    await walk.startBalancer(walk.local(config), walk.local(balancer));
    for (const tag of ["v1", "v2", "v3"]) await walk.push(balancer, tag);
    for (const address of [balancer, addressOf("one"), addressOf("two")]) await walk.pullAll(address);
  });
});

/** versitygw with the service's own arguments: it is the program of that image. */
async function startStore(address: string): Promise<void> {
  const { command = [], environment, volumes } = services.s3;
  expect(volumes).toEqual(["./s3:/data"]);
  const found = await findGoTool("versitygw");
  if (found.kind === "missing") throw new Error(found.reason);
  const args = command.map((each) => ({ ":7070": address, "/data": join(walk.here, "s3") })[each] ?? each);
  const child = startProcess({ command: found.path, args, env: { ...environment }, name: "versitygw" });
  walk.keep(child);
  await child.waitForUrl(`http://${address}`);
}
