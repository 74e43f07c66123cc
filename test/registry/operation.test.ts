/**
 * Health and metrics as an operator and a load balancer see them; stopping is in test/cli/stop.test.ts. Source:
 * quay-behaviour reference, section 18.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { image, publish } from "../support/content.ts";
import { findTool } from "../support/tools.ts";
import { type Registry, startRegistry } from "./harness.ts";

const debugSecret = "look-inside-0123456789";
let registry: Registry;

beforeAll(async () => {
  registry = await startRegistry(
    { ENABLE_HEALTH_DEBUG_SECRET: debugSecret },
    { alone: "its metrics and its log are those of one instance" },
  );
  await publish(registry.admin, "admin/operation", image("operation"), "v1");
  await registry.admin.pullManifest("admin/operation", "v1");
}, 60_000);
afterAll(() => registry.stop());

const instanceServices = {
  auth: true,
  database: true,
  disk_space: true,
  registry_gunicorn: true,
  service_key: true,
  web_gunicorn: true,
};

describe("health", () => {
  for (const [path, services] of [
    ["/health", instanceServices],
    ["/health/instance", instanceServices],
    ["/health/endtoend", { auth: true, database: true, redis: true, storage: true }],
    ["/status", { auth: true, database: true, redis: true, storage: true }],
    ["/health/warning", { disk_space_warning: true }],
  ] as const) {
    test(`${path} answers in Quay's JSON`, async () => {
      const response = await fetch(registry.berth.url + path);
      expect(response.status).toBe(200);
      expect(response.headers.get("cache-control")).toBe("no-store");
      expect(await response.json()).toEqual({ data: { services }, status_code: 200 });
    });
  }

  test("the debug secret shows each service's state, a wrong one shows nothing more", async () => {
    const ask = async (secret: string) => {
      const headers = { authorization: `Bearer ${secret}` };
      const response = await fetch(`${registry.berth.url}/health/instance`, { headers });
      return ((await response.json()) as { data: Record<string, unknown> }).data;
    };
    expect((await ask(debugSecret)).services_expanded).toMatchObject({ database: { status: true } });
    for (const wrong of ["", "wrong", `${debugSecret}x`, debugSecret.slice(1)]) {
      expect((await ask(wrong)).services_expanded, wrong).toBeUndefined();
    }
  });

  test("is cheap enough to be asked by many every second", async () => {
    const startedMs = performance.now();
    for (let round = 0; round < 20; round++) {
      const answers = await Promise.all(
        Array.from({ length: 25 }, () => fetch(`${registry.berth.url}/health/endtoend`)),
      );
      for (const response of answers) expect(response.status).toBe(200);
      await Promise.all(answers.map((response) => response.body?.cancel()));
    }
    expect(performance.now() - startedMs).toBeLessThan(5000);
  }, 15_000);

  test("paths beside are 404", async () => {
    for (const path of ["/health/other", "/health/instance/x", "/statusx"]) {
      const response = await fetch(registry.berth.url + path);
      expect(response.status, path).toBe(404);
      await response.body?.cancel();
    }
  });

  test("a disk below the threshold is a 503 that names the service, and a warning a warning", async () => {
    const full = await startRegistry(
      { DISKSPACE_HEALTH_THRESHOLD: 1, DISKSPACE_HEALTH_WARNING_THRESHOLD: 1 },
      { onDisk: "a bucket has no room that could be short" },
    );
    try {
      const instance = await fetch(`${full.berth.url}/health/instance`);
      expect(instance.status).toBe(503);
      expect(instance.headers.get("retry-after")).toBe("5");
      expect(await instance.json()).toEqual({
        data: { services: { ...instanceServices, disk_space: false } },
        status_code: 503,
      });
      const warning = await fetch(`${full.berth.url}/health/warning`);
      expect(await warning.json()).toEqual({ data: { services: { disk_space_warning: false } }, status_code: 503 });
      expect((await fetch(`${full.berth.url}/health/endtoend`)).status).toBe(200);
    } finally {
      await full.stop();
    }
  }, 30_000);
});

describe("metrics", () => {
  const metrics = async () => (await fetch(`${registry.berth.metricsUrl}/metrics`)).text();

  test("are on a port of their own and nowhere else", async () => {
    const response = await fetch(`${registry.berth.metricsUrl}/metrics`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    for (const url of [
      `${registry.berth.metricsUrl}/`,
      `${registry.berth.metricsUrl}/v2/`,
      `${registry.berth.url}/metrics`,
    ]) {
      const other = await fetch(url);
      expect(other.status, url).toBe(404);
      await other.body?.cancel();
    }
  });

  test("have Quay's names and types, and count what happened", async () => {
    const series = parseMetrics(await metrics());
    for (const [name, type] of [
      ["quay_user_rows", "gauge"],
      ["quay_robot_rows", "gauge"],
      ["quay_org_rows", "gauge"],
      ["quay_repository_rows", "gauge"],
      ["quay_request_duration_seconds", "histogram"],
      ["quay_registry_image_pulls_total", "counter"],
      ["quay_registry_image_pushes_total", "counter"],
      ["quay_registry_image_pulled_estimated_bytes_total", "counter"],
      ["quay_registry_image_pushed_bytes_total", "counter"],
      ["quay_authentication_attempts_total", "counter"],
      ["quay_model_cache_total", "counter"],
      ["bearer_token_decoded_total", "counter"],
      ["process_resident_memory_bytes", "gauge"],
      ["process_cpu_seconds_total", "counter"],
    ] as const) {
      expect(series.types.get(name), name).toBe(type);
    }
    const value = (name: string, labels: Record<string, string> = {}) =>
      series.samples
        .filter((sample) => sample.name === name)
        .filter((sample) => Object.entries(labels).every(([key, text]) => sample.labels[key] === text))
        .reduce((sum, sample) => sum + sample.value, 0);
    expect(value("quay_registry_image_pushes_total", { protocol: "v2", status: "201" })).toBeGreaterThanOrEqual(1);
    expect(
      value("quay_registry_image_pulls_total", { protocol: "v2", ref: "tag", status: "200" }),
    ).toBeGreaterThanOrEqual(1);
    expect(value("quay_registry_image_pushed_bytes_total")).toBeGreaterThan(1024);
    expect(value("quay_user_rows")).toBeGreaterThanOrEqual(1);
    expect(value("quay_request_duration_seconds_count", { route: "manifest", method: "PUT", status: "201" })).toBe(1);
  });

  test("are in a form that Prometheus takes: help and type before samples, histograms that add up", async () => {
    const text = await metrics();
    const series = parseMetrics(text);
    for (const sample of series.samples) {
      expect(sample.name).toMatch(/^[a-z][a-z0-9_]*$/);
      const family = sample.name.replace(/_(bucket|sum|count)$/, "");
      expect(series.types.has(sample.name) || series.types.get(family) === "histogram", sample.name).toBe(true);
      if (series.types.get(sample.name) === "counter") expect(sample.name).toEndWith("_total");
    }
    for (const name of series.types.keys()) expect(series.helps.has(name), name).toBe(true);
    expect(text.endsWith("\n")).toBe(true);
    const promtool = findTool("promtool");
    if (promtool === undefined) return;
    const check = Bun.spawnSync([promtool, "check", "metrics"], { stdin: Buffer.from(text) });
    expect(check.stderr.toString() + check.stdout.toString()).not.toMatch(/error/i);
  });

  test("a flood of odd paths and methods makes no series of its own", async () => {
    await metrics();
    const before = parseMetrics(await metrics()).samples.length;
    for (let round = 0; round < 30; round++) {
      for (const path of [`/v2/x${round}/y/tags/list`, `/other/${round}`, `/v2/odd${round}`]) {
        const response = await fetch(registry.berth.url + path, { method: round % 2 ? "GET" : "PROPFIND" });
        await response.body?.cancel();
      }
    }
    const grown = parseMetrics(await metrics()).samples.length - before;
    // Three routes, two methods, two answers each, and a histogram of 17 samples for every one.
    expect(grown).toBeLessThanOrEqual(3 * 2 * 2 * 18);
  });
});

interface Sample {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly value: number;
}

/** Prometheus' text format 0.0.4. Throws on a line that is none of it. */
function parseMetrics(text: string): { types: Map<string, string>; helps: Set<string>; samples: Sample[] } {
  const types = new Map<string, string>();
  const helps = new Set<string>();
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment) {
      const [, kind, name = "", rest = ""] = comment;
      if (kind === "HELP") helps.add(name);
      else types.set(name, rest);
      continue;
    }
    const match = /^([a-z_][a-z0-9_]*)(?:\{(.*)\})? (\S+)$/i.exec(line);
    if (!match) throw new Error(`not a line of metrics: ${line}`);
    const labels: Record<string, string> = {};
    for (const [, name = "", value = ""] of (match[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g))
      labels[name] = value;
    samples.push({ name: match[1] ?? "", labels, value: Number(match[3]) });
  }
  return { types, helps, samples };
}
