/** Mail, the web interface, search, webhooks, rate limits, health and metrics: section 12 of the reference. */
import { z } from "zod";
import {
  block,
  bool,
  listOf,
  nullableText,
  number,
  oneOf,
  openBlock,
  optionalText,
  optionalTexts,
  port,
  requiredText,
  seconds,
  text,
  texts,
  url,
} from "../fields.ts";

const contact = () =>
  requiredText().regex(/^(mailto:|irc:\/\/|tel:|https?:\/\/).+$/, {
    error: "must be a link that begins with mailto:, tel:, irc:// or https://",
  });

export const interfaceKeys = {
  /** On as in Quay's server; without a MAIL_SERVER nothing is sent. */
  FEATURE_MAILING: bool(true),
  MAIL_SERVER: text(""),
  MAIL_PORT: port(587),
  MAIL_USE_TLS: bool(true),
  MAIL_USE_AUTH: bool(false),
  MAIL_USERNAME: nullableText(),
  MAIL_PASSWORD: nullableText(),
  MAIL_DEFAULT_SENDER: nullableText("admin@example.com"),
  MAIL_FAIL_SILENTLY: bool(false),
  REGISTRY_TITLE: text("Project Quay"),
  REGISTRY_TITLE_SHORT: text("Project Quay"),
  BRANDING: block({ logo: nullableText(), footer_img: nullableText(), footer_url: nullableText() })
    .nullable()
    .default({ logo: "/static/img/quay-horizontal-color.svg", footer_img: null, footer_url: null }),
  ENTERPRISE_LOGO_URL: optionalText(),
  AVATAR_KIND: oneOf(["local", "gravatar"]).default("local"),
  CONTACT_INFO: listOf(contact()).default([]),
  DOCUMENTATION_ROOT: requiredText()
    .refine((value) => URL.canParse(value), { error: "must be a valid url." })
    .default("https://docs.projectquay.io/"),
  FEATURE_UI_V2: bool(false),
  FEATURE_UI_V2_REPO_SETTINGS: bool(false),
  UI_V2_FEEDBACK_FORM: optionalText(),
  SEARCH_RESULTS_PER_PAGE: number(10, 1),
  SEARCH_MAX_RESULT_PAGE_COUNT: number(10, 1),
  /** In addition to localhost and 127.0.0.1. */
  WEBHOOK_HOSTNAME_BLACKLIST: texts(),
  NOTIFICATION_SEND_TIMEOUT: seconds(10, 1),
  NOTIFICATION_QUEUE_NAME: text("notification"),
  FEATURE_RATE_LIMITS: bool(false),
  NON_RATE_LIMITED_NAMESPACES: optionalTexts(),
  ENABLE_HEALTH_DEBUG_SECRET: nullableText(),
  HEALTH_CHECKER: z
    .tuple([oneOf(["LocalHealthCheck", "RDSAwareHealthCheck", "ProductionHealthCheck"]), openBlock()], {
      error: "must be a list of two: a health check and its arguments, such as [LocalHealthCheck, {}]",
    })
    .default(["LocalHealthCheck", {}]),
  /** Shares of the disk that must be free: below the first `/health` fails, below the second it warns. */
  DISKSPACE_HEALTH_THRESHOLD: number(0.01, 0, 1),
  DISKSPACE_HEALTH_WARNING_THRESHOLD: number(0.1, 0, 1),
  PROMETHEUS_NAMESPACE: requiredText()
    .regex(/^[a-zA-Z_:][a-zA-Z0-9_:]*$/, {
      error: "must be a metric prefix of letters, digits and underscores, such as quay",
    })
    .default("quay"),
  PROMETHEUS_PUSHGATEWAY_URL: url().nullable().default("http://localhost:9091"),
  GLOBAL_PROMETHEUS_STATS_FREQUENCY: seconds(3600, 1),
  QUEUE_WORKER_METRICS_REFRESH_SECONDS: seconds(300, 1),
  GREENLET_TRACING: bool(true),
  EXCEPTION_LOG_TYPE: text("FakeSentry"),
  SENTRY_DSN: nullableText(),
  SENTRY_PUBLIC_DSN: nullableText(),
};
