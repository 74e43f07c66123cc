/**
 * GET /config: what a browser may know of the configuration. Only keys that are named here are shown, and their secrets and
 * those of all others never are. Source: quay-api reference, section 17; quay-config, section 12.
 */

import type { App } from "../app.ts";
import type { Config } from "../config/schema.ts";
import { isMailing } from "../domain/mail/mailing.ts";
import type { Client } from "./context.ts";
import { baseUrl } from "./registry/challenge.ts";

const SHOWN = [
  "SERVER_HOSTNAME",
  "PREFERRED_URL_SCHEME",
  "AUTHENTICATION_TYPE",
  "REGISTRY_TITLE",
  "REGISTRY_TITLE_SHORT",
  "CONTACT_INFO",
  "AVATAR_KIND",
  "LOCAL_OAUTH_HANDLER",
  "SETUP_COMPLETE",
  "DEBUG",
  "RECAPTCHA_SITE_KEY",
  "TAG_EXPIRATION_OPTIONS",
  "INTERNAL_OIDC_SERVICE_ID",
  "SEARCH_RESULTS_PER_PAGE",
  "SEARCH_MAX_RESULT_PAGE_COUNT",
  "BRANDING",
  "ENTERPRISE_LOGO_URL",
  "DOCUMENTATION_ROOT",
  "FEATURE_REPO_MIRROR",
  "FEATURE_QUOTA_MANAGEMENT",
  "FEATURE_PROXY_CACHE",
  "QUOTA_BACKFILL",
  "PERMANENTLY_DELETE_TAGS",
  "UI_V2_FEEDBACK_FORM",
  "SENTRY_PUBLIC_DSN",
  "STATIC_SITE_BUCKET",
  "MIXPANEL_KEY",
  "STRIPE_PUBLISHABLE_KEY",
  "MARKETO_MUNCHKIN_ID",
  "CHANNEL_COLORS",
] as const satisfies readonly (keyof Config)[];

const FEATURE = "FEATURE_";

export function configRoute(app: App, request: Request, client: Client): Response {
  const { config } = app;
  const body = {
    config: { ...shownConfig(config), SERVER_HOSTNAME: new URL(baseUrl(config, request, client)).host },
    features: features(config),
    // Log-ins by other services: none are offered yet.
    oauth: {},
    external_login: [],
    registry_state: config.REGISTRY_STATE,
    account_recovery_mode: config.ACCOUNT_RECOVERY_MODE,
  };
  return Response.json(body, { headers: { "Cache-Control": "no-store" } });
}

function shownConfig(config: Config): Record<string, unknown> {
  return Object.fromEntries(SHOWN.flatMap((key) => (config[key] === undefined ? [] : [[key, config[key]]])));
}

/** Every FEATURE_ key, as `features.<NAME>`. Mail counts as on when it can be sent, so that no page offers it in vain. */
function features(config: Config): Record<string, unknown> {
  const given = Object.entries(config).filter(([key]) => key.startsWith(FEATURE));
  return {
    ...Object.fromEntries(given.map(([key, value]) => [key.slice(FEATURE.length), value])),
    MAILING: isMailing(config),
  };
}
