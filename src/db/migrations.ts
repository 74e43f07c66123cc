/** The migrations that this program carries, as text so that the single binary needs no files beside it. */

import init from "../../sql/0001_init.sql" with { type: "text" };
import accounts from "../../sql/0002_accounts.sql" with { type: "text" };
import tags from "../../sql/0003_tags.sql" with { type: "text" };
import logs from "../../sql/0004_logs.sql" with { type: "text" };
import credentials from "../../sql/0005_credentials.sql" with { type: "text" };
import search from "../../sql/0006_search.sql" with { type: "text" };
import uploads from "../../sql/0007_uploads.sql" with { type: "text" };
import replication from "../../sql/0008_replication.sql" with { type: "text" };
import gc from "../../sql/0009_gc.sql" with { type: "text" };
import prune from "../../sql/0010_prune.sql" with { type: "text" };
import quota from "../../sql/0011_quota.sql" with { type: "text" };
import blobDigest from "../../sql/0012_blob_digest.sql" with { type: "text" };
import lastPull from "../../sql/0013_last_pull.sql" with { type: "text" };
import undelete from "../../sql/0014_undelete.sql" with { type: "text" };
import scrub from "../../sql/0015_scrub.sql" with { type: "text" };
import gcFreed from "../../sql/0016_gc_freed.sql" with { type: "text" };
import asked from "../../sql/0017_asked.sql" with { type: "text" };
import referenced from "../../sql/0018_referenced.sql" with { type: "text" };
import type { Migration } from "./migrate.ts";

/** In order, without gaps. Only ever added to: the text of one that was released never changes. */
export const migrations: readonly Migration[] = [
  { id: 1, name: "init", text: init },
  { id: 2, name: "accounts", text: accounts },
  { id: 3, name: "tags", text: tags },
  { id: 4, name: "logs", text: logs },
  { id: 5, name: "credentials", text: credentials },
  { id: 6, name: "search", text: search },
  { id: 7, name: "uploads", text: uploads },
  { id: 8, name: "replication", text: replication },
  { id: 9, name: "gc", text: gc },
  { id: 10, name: "prune", text: prune },
  { id: 11, name: "quota", text: quota },
  { id: 12, name: "blob_digest", text: blobDigest },
  { id: 13, name: "last_pull", text: lastPull },
  { id: 14, name: "undelete", text: undelete },
  { id: 15, name: "scrub", text: scrub },
  { id: 16, name: "gc_freed", text: gcFreed },
  { id: 17, name: "asked", text: asked },
  { id: 18, name: "referenced", text: referenced },
];
