/** What of the environment is shown to a superuser: what matters to a registry, and no secret. */
import { expect, test } from "bun:test";
import { shownEnvironment } from "./environment.ts";

test("only what matters is shown, with secrets starred", () => {
  const shown = shownEnvironment({
    HOME: "/root",
    AWS_SECRET_ACCESS_KEY: "hidden",
    WORKER_COUNT: "4",
    DEBUGLOG: undefined,
    BERTH_ADMIN_PASSWORD: "hidden",
    HTTPS_PROXY: "http://user:hidden@proxy:3128",
    no_proxy: "localhost",
    QUAY_OVERRIDE_CONFIG: '{"DB_URI":"postgresql://u:hidden@h/d","SECRET_KEY":"hidden","SUPER_USERS":["admin"]}',
  });
  expect(shown).toEqual({
    BERTH_ADMIN_PASSWORD: "***",
    HTTPS_PROXY: "http://user:***@proxy:3128",
    QUAY_OVERRIDE_CONFIG: '{"DB_URI":"postgresql://u:***@h/d","SECRET_KEY":"***","SUPER_USERS":["admin"]}',
    WORKER_COUNT: "4",
    no_proxy: "localhost",
  });
});

test("what cannot be read may hold anything", () => {
  expect(shownEnvironment({ QUAY_OVERRIDE_CONFIG: '{"SECRET_KEY": hidden' })).toEqual({ QUAY_OVERRIDE_CONFIG: "***" });
});
