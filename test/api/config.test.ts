/** GET /config, and the log-ins by other services that are not there yet. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Api, envelopeOf, startApi } from "./harness.ts";

setDefaultTimeout(30_000);
/** Every key that holds a secret and may be set without more. */
const SECRETS = {
  SECRET_KEY: "planted-secret-key-0123456789",
  DATABASE_SECRET_KEY: "planted-database-key-0123456789",
  RECAPTCHA_SECRET_KEY: "planted-captcha",
  MAIL_PASSWORD: "planted-mail",
  IP_DATA_API_KEY: "planted-ip",
  PAGE_TOKEN_KEY: "planted-page",
  ENABLE_HEALTH_DEBUG_SECRET: "planted-health",
  SENTRY_DSN: "https://planted-sentry@example.com/1",
  STRIPE_SECRET_KEY: "planted-stripe",
  STRIPE_WEBHOOK_SECRET: "planted-hook",
  SECURITY_SCANNER_V4_PSK: "cGxhbnRlZC1wc2s=",
  BUILDLOGS_REDIS: { host: "redis.example.com", password: "planted-redis" },
};
let api: Api;
beforeAll(async () => {
  api = await startApi({
    ...SECRETS,
    SERVER_HOSTNAME: "registry.example.com",
    REGISTRY_TITLE: "Our registry",
    RECAPTCHA_SITE_KEY: "site-key",
    CONTACT_INFO: ["mailto:help@example.com"],
  });
}, 60_000);
afterAll(() => api.stop());

async function readConfig(url: string) {
  const response = await fetch(`${url}/config`);
  expect([response.status, response.headers.get("cache-control")]).toEqual([200, "no-store"]);
  return { text: await response.clone().text(), body: (await response.json()) as Record<string, never> };
}

test("shows what a page needs, under Quay's names", async () => {
  const { body } = await readConfig(api.berth.url);
  expect(Object.keys(body)).toEqual([
    "config",
    "features",
    "oauth",
    "external_login",
    "registry_state",
    "account_recovery_mode",
  ]);
  expect(body).toMatchObject({
    config: {
      SERVER_HOSTNAME: "registry.example.com",
      PREFERRED_URL_SCHEME: "http",
      AUTHENTICATION_TYPE: "Database",
      REGISTRY_TITLE: "Our registry",
      CONTACT_INFO: ["mailto:help@example.com"],
      RECAPTCHA_SITE_KEY: "site-key",
      TAG_EXPIRATION_OPTIONS: ["0s", "1d", "1w", "2w", "4w"],
      FEATURE_REPO_MIRROR: false,
    },
    // On in the defaults, but there is no server to send through.
    features: { MAILING: false, USER_CREATION: true, DIRECT_LOGIN: true, SUPER_USERS: true },
    oauth: {},
    external_login: [],
    registry_state: "normal",
    account_recovery_mode: false,
  });
});

test("shows no secret, whatever is set", async () => {
  const { text } = await readConfig(api.berth.url);
  for (const secret of ["planted", "cGxhbnRlZC1wc2s=", "SECRET", "redis.example.com", "DB_URI"]) {
    expect(text).not.toContain(secret);
  }
});

test("names the host it was asked under where none is configured", async () => {
  const plain = await startApi();
  const { body } = await readConfig(plain.berth.url);
  expect(body).toMatchObject({ config: { SERVER_HOSTNAME: plain.berth.host } });
  await plain.stop();
});

test("other services to log in with are none", async () => {
  await api.user("alice");
  const begun = await (await api.nobody()).post("/externallogin/github", { kind: "login" });
  expect([begun.status, envelopeOf(begun).detail]).toEqual([
    400,
    'There is no external log-in service "github" on this registry',
  ]);
  const ended = await (await api.as("alice")).post("/detachexternal/github");
  expect([ended.status, envelopeOf(ended).type]).toEqual([404, "not_found"]);
});
