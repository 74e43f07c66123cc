/** What a running Berth consists of, as types only. `boot.ts` builds it; use-cases ask for the parts they need. */

import type { CaptchaVerifier } from "./clients/captcha.ts";
import type { IssuerKeys } from "./clients/issuer-keys.ts";
import type { Mailer } from "./clients/smtp.ts";
import type { GivenConfig } from "./config/load.ts";
import type { Config } from "./config/schema.ts";
import type { Database } from "./db/db.ts";
import type { AuditBatch } from "./domain/audit/batch.ts";
import type { Lookup } from "./domain/lookup/lookup.ts";
import type { PullCounter } from "./domain/pullstats/pull-counter.ts";
import type { TokenKeys } from "./domain/token/keys.ts";
import type { UploadHashes } from "./domain/upload/hashes.ts";
import type { LoginCache } from "./domain/user/login.ts";
import type { PasswordHasher } from "./domain/user/password.ts";
import type { Clock } from "./lib/clock.ts";
import type { SafeFetch } from "./lib/safe-fetch.ts";
import type { SecretBox } from "./lib/secret-box.ts";
import type { LogSink } from "./logsink/contract.ts";
import type { Logger } from "./observe/logger.ts";
import type { Metrics } from "./observe/metrics.ts";
import type { BlobStore } from "./storage/placement.ts";

export interface App {
  readonly config: Config;
  /** What was given beside it, for the config dump. */
  readonly given: GivenConfig;
  readonly db: Database;
  readonly storage: BlobStore;
  /** Where action-log entries go and are read back from. */
  readonly logsink: LogSink;
  /** Entries that no change carries: pulls, log-ins, failures. */
  readonly audit: AuditBatch;
  /** The bounded caches on the pull path. */
  readonly lookup: Lookup;
  /** Counts pulls and pushes, written in batches. */
  readonly pulls: PullCounter;
  readonly passwords: PasswordHasher;
  readonly logins: LoginCache;
  readonly tokenKeys: TokenKeys;
  /** Keys of the OpenID issuers that robots trust. */
  readonly issuers: IssuerKeys;
  readonly uploadHashes: UploadHashes;
  readonly secrets: SecretBox;
  readonly mailer: Mailer;
  /** Asks addresses that users supply. */
  readonly outbound: SafeFetch;
  /** Asked only with FEATURE_RECAPTCHA. */
  readonly captcha: CaptchaVerifier;
  /** SECRET_KEY, or one the instances share: signs CSRF values, seals client keys. */
  readonly secretKey: string;
  /** Seals what is handed out to be brought back: paging tokens. */
  readonly pageTokens: SecretBox;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** What the process is doing: health looks at it, and notes when it was last asked. */
  readonly state: {
    draining: boolean;
    healthAskedMs?: number;
    /** Other processes of this machine serve the same registry. */
    hasSiblings?: boolean;
    /** Stops the process as SIGTERM does; absent where nothing serves. */
    stop?: (reason: string) => void;
  };
}
