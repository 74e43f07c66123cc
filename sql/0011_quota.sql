-- Bytes that repositories and namespaces use, moved in the transaction that changes them.

-- Counts belong to a generation of their namespace: those of an earlier one are as if they were not there. So totals that
-- cannot be trusted any more are dropped by one number, whatever the namespace holds. (Nothing was counted before this.)
drop table namespace_usage;
drop table namespace_blob;
drop table repository_usage;
-- "dropped" counts nothing until the backfill takes it up; in "waiting" and "running" only some repositories are counted.
create table namespace_usage (
  namespace_id bigint primary key references account (id),
  generation bigint not null default 1,
  size_bytes bigint not null default 0,
  backfill_state text not null default 'waiting' check (backfill_state in ('dropped', 'waiting', 'running', 'complete'))
);
create index namespace_usage_unfinished on namespace_usage (namespace_id) where backfill_state <> 'complete';

-- Blobs with an id of at most counted_through are counted, later ones are still to be looked at.
create table repository_usage (
  repository_id bigint primary key references repository (id),
  generation bigint not null,
  counted_through bigint not null,
  size_bytes bigint not null
);

-- How many counted repositories of the namespace name a blob in a manifest: its bytes count once. No reference to blob:
-- rows of earlier generations may outlive it.
create table namespace_blob (
  namespace_id bigint not null references account (id),
  blob_id bigint not null,
  generation bigint not null,
  repository_count bigint not null,
  primary key (namespace_id, blob_id)
);

-- All repositories of a namespace, the deleted ones too, in the order in which they are counted and purged.
create index repository_all_of_namespace on repository (namespace_id, id);
