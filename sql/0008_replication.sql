-- Copies between stores, and what a queue needs to run with them: lanes, leases that free a dead worker's job, and
-- progress that outlives the worker.

-- Jobs of one queue that wait for the same thing (a store) stand in one lane: while that is away the others go on.
alter table job add column lane {{text_c}} not null default '';
-- Asked for once more while it ran: it goes back instead of ending, because the run may have missed the reason.
alter table job add column again {{bool}} not null default false;
-- due_ms is the time from which anybody may take the job: taking it moves that to the end of the lease.
drop index job_due;
create index job_due on job (queue, lane, due_ms, id);
create index job_waiting on job (queue, lane, created_ms, lease_until_ms, attempts_left);

-- How far the copy of a blob to a location has come. Without a reference to the blob: one that is collected in the middle
-- must not wait for its copy, and whoever finds the row later removes what it names in the store.
create table blob_copy (
  blob_id bigint not null,
  location text not null,
  upload_id text not null,
  -- the driver's; empty as long as the store has not heard of it
  upload_state text not null default '',
  offset_bytes bigint not null default 0,
  -- where the bytes so far came from; null when they came from several stores
  source text,
  updated_ms bigint not null,
  primary key (blob_id, location)
);
create index blob_copy_by_location on blob_copy (location, updated_ms);
