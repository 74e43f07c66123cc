/** What a client may see of a fault: the answer it asked for, or a 503 that says when to come back. Nothing else. */
import { expect } from "bun:test";
import { describeResponse } from "../support/registry-client.ts";

/** However slow the machine is; conditions are awaited, this is when to call it a failure. */
export const PATIENCE_MS = 60_000;

/** True for a 503 with Retry-After and the registry's error body, false for an answer of this status; else an error. */
export async function isRefused(answer: Promise<Response>, expected: number): Promise<boolean> {
  const response = await answer;
  if (response.status === expected) {
    await response.body?.cancel();
    return false;
  }
  if (response.status !== 503) throw new Error(`neither ${expected} nor 503: ${await describeResponse(response)}`);
  await expectRefusal(response);
  return true;
}

/** A 503 as clients understand it, and without a word of the database's address. */
export async function expectRefusal(response: Response): Promise<void> {
  const text = await response.text();
  expect(response.status, text).toBe(503);
  expect(Number(response.headers.get("retry-after")), text).toBeGreaterThan(0);
  const { errors } = JSON.parse(text) as { errors: { code: string }[] };
  expect(errors.map(({ code }) => code)).toEqual(["UNAVAILABLE"]);
  for (const secret of ["127.0.0.1", "postgres"]) expect(text).not.toContain(secret);
}

/** Asks again until it gives true. Throws after `PATIENCE_MS`. Gives how long it took. */
export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<number> {
  const startedMs = performance.now();
  while (!(await condition())) {
    if (performance.now() - startedMs > PATIENCE_MS) throw new Error(`after ${PATIENCE_MS} ms still not: ${what}`);
    await Bun.sleep(50);
  }
  return performance.now() - startedMs;
}
