/**
 * The Prometheus registry with Quay's metric names, so that dashboards made for Quay keep working. Only series that have
 * a source today are registered. Names and labels: quay-metrics reference, section 2.
 */

import { hostname } from "node:os";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { registerProcessFigures } from "./process-figures.ts";
import { batchedCounter } from "./series.ts";

export type Metrics = ReturnType<typeof createMetrics>;

/** Request durations from a cached manifest (under a millisecond) to a large push (minutes). Seconds. */
const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300];

export function createMetrics() {
  const registry = new Registry();
  registry.setDefaultLabels({ host: hostname(), process_name: "berth" });
  registerProcessFigures(registry);
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name, help, labelNames, registers });
  const batched = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    batchedCounter<L>({ name, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name, help, labelNames, registers });
  // The same thing seen by every process that shares the port: their scrape is not its sum.
  const sharedGauge = (name: string, help: string) => new Gauge({ name, help, registers, aggregator: "max" });
  const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Histogram<L>({ name, help, labelNames, registers, buckets: DURATION_BUCKETS });

  return {
    registry,
    requestDuration: histogram("quay_request_duration_seconds", "time to handle a request", [
      "method",
      "route",
      "status",
    ]),
    countPull: batched("quay_registry_image_pulls_total", "manifests fetched", ["protocol", "ref", "status"]),
    imagePushes: counter("quay_registry_image_pushes_total", "manifests written", ["protocol", "status", "media_type"]),
    countPulledBytes: batched("quay_registry_image_pulled_estimated_bytes_total", "bytes of blobs handed out", [
      "protocol",
    ]),
    pushedBytes: counter("quay_registry_image_pushed_bytes_total", "bytes of blobs received"),
    chunkUploadDuration: histogram("quay_chunk_upload_duration_seconds", "time to store one chunk", ["region"]),
    authAttempts: counter("quay_authentication_attempts_total", "log-ins checked, by kind and outcome", [
      "auth_kind",
      "success",
    ]),
    bearerDecoded: counter("bearer_token_decoded_total", "registry bearer tokens checked", ["success"]),
    countLookup: batched("quay_model_cache_total", "look-up cache answers", ["type"]),
    keyRenewals: counter("quay_instance_key_renewal_self_total", "instance key refreshes", ["success"]),
    userRows: sharedGauge("quay_user_rows", "users in the database"),
    robotRows: sharedGauge("quay_robot_rows", "robot accounts in the database"),
    orgRows: sharedGauge("quay_org_rows", "organizations in the database"),
    repositoryRows: sharedGauge("quay_repository_rows", "repositories in the database"),
    replicatedBlobs: counter("berth_replication_blobs_total", "blobs copied to a store by this instance", ["location"]),
    replicatedBytes: counter("berth_replication_bytes_total", "bytes copied to a store by this instance", ["location"]),
    replicationWrong: counter(
      "berth_replication_wrong_total",
      "blobs found missing or wrong in a store that should have them",
      ["location"],
    ),
    scrubBytes: counter("berth_scrub_bytes_total", "bytes read to compare blobs with their digests", ["location"]),
    scrubBad: counter("berth_scrub_bad_total", "blobs taken out of service in a store, by what was wrong with them", [
      "location",
      "kind",
    ]),
    scrubRepaired: counter("berth_scrub_repaired_total", "blobs put back into service in a store", ["location"]),
    scrubUnreadable: counter("berth_scrub_unreadable_total", "blobs that could not be read to compare them", [
      "location",
    ]),
    gcIterations: counter("quay_gc_iterations_total", "rounds of garbage collection"),
    gcNamespaces: counter("quay_gc_namespaces_purged_total", "deleted namespaces removed"),
    gcRepositories: counter("quay_gc_repos_purged_total", "deleted repositories removed"),
    gcBlobs: counter("quay_gc_storage_blobs_deleted_total", "blobs deleted from storage"),
    gcBytes: counter("berth_gc_bytes_deleted_total", "bytes of blobs deleted from storage"),
    gcRows: counter("quay_gc_table_rows_deleted_total", "rows removed by garbage collection", ["table"]),
    quotaCompared: counter("berth_quota_reconciled_total", "namespaces whose totals were counted afresh and compared"),
    quotaDrifts: counter("berth_quota_drift_total", "namespaces whose kept totals were wrong and are counted again"),
    queuePuts: counter("quay_queue_item_puts_total", "jobs put into a queue", ["queue_name"]),
    queueGets: counter("quay_queue_item_gets_total", "looks for a job, by what was found", [
      "queue_name",
      "availability",
    ]),
    queueDeletes: counter("quay_queue_item_deletes_total", "jobs that left their queue"),
    auditDropped: counter("berth_action_log_dropped_total", "action-log entries that were not kept", ["kind"]),
    dbQueries: counter("berth_db_queries_total", "database queries sent"),
    dbTransactions: counter("berth_db_transactions_total", "database transactions begun"),
    uploadsActive: gauge("berth_uploads_active", "upload requests receiving bytes now"),
  };
}
