-- Blobs are read again now and then, and compared with their digests.

-- A copy that is out of service: it was in blob_placement, and is not any more, so that nobody is sent to it. Its bytes stay
-- until they are written again or the blob is collected. With location '' it is the blob itself that has no place left.
create table blob_bad_copy (
  blob_id bigint not null references blob (id),
  location {{text_c}} not null,
  kind text not null check (kind in ('digest', 'size', 'missing', 'lost')),
  -- what was found instead: a digest, a size in bytes, or nothing
  found text not null default '',
  found_ms bigint not null,
  -- when to try again to repair it; null when there is nothing to repair it from
  retry_ms bigint,
  primary key (blob_id, location)
);
create index blob_bad_copy_by_location on blob_bad_copy (location, kind, blob_id);
create index blob_bad_copy_due on blob_bad_copy (location, retry_ms) where retry_ms is not null;

-- The reading of a location, from the first blob to the last that there was when it began.
create table scrub_pass (
  location {{text_c}} primary key,
  -- when the location was first heard of
  created_ms bigint not null,
  -- of the pass that is under way, or of the last one; null before the first
  started_ms bigint,
  -- when it ended; null while it is under way
  ended_ms bigint,
  after_blob_id bigint not null default 0,
  last_blob_id bigint not null default 0,
  blobs bigint not null default 0,
  bytes bigint not null default 0,
  bad bigint not null default 0,
  repaired bigint not null default 0,
  unreadable bigint not null default 0,
  -- the end of the last pass that could read everything; null before the first
  full_ms bigint,
  -- not before this: the store was away
  resume_ms bigint not null default 0,
  lease_owner text,
  lease_until_ms bigint
);
