-- The action log as it grows: entries outlive what they name, equal ones share a row, and files of exports. Times are
-- epoch milliseconds.

-- Without references: a purged account or repository keeps its history, a purge does not touch it, and a pull that is
-- written a second late does not fail because its repository is gone. Ids are never given twice.
create table action_log_next (
  id {{id}},
  kind text not null,
  namespace_id bigint,
  performer_id bigint,
  repository_id bigint,
  ip text,
  metadata text not null,
  -- entries of one second that do not differ are one row
  entry_count bigint not null default 1 check (entry_count > 0),
  created_ms bigint not null
);
insert into action_log_next (kind, namespace_id, performer_id, repository_id, ip, metadata, created_ms)
  select kind, namespace_id, performer_id, repository_id, ip, metadata, created_ms from action_log order by id;
drop table action_log;
alter table action_log_next rename to action_log;
-- Kind and count stand in the keys, so that counting a month by kind and day does not touch the rows.
create index action_log_by_namespace on action_log (namespace_id, created_ms, id, kind, entry_count);
create index action_log_by_namespace_performer on action_log (namespace_id, performer_id, created_ms, id);
create index action_log_by_repository on action_log (repository_id, created_ms, id, kind, entry_count);
create index action_log_by_performer on action_log (performer_id, created_ms, id);
create index action_log_by_time on action_log (created_ms, id, kind, entry_count);

-- DISABLED_FOR_AUDIT_LOGS of the config that was last started with: here, so that an insert inside a change can look.
create table audit_exempt (
  username {{text_c}} primary key
);

-- Exports of the action log: what was asked for, the file, and who is told. A row goes with its file.
create table log_export (
  id text primary key,
  namespace_id bigint not null,
  namespace text not null,
  repository_id bigint,
  repository text,
  start_ms bigint not null,
  end_ms bigint not null,
  callback_url text,
  callback_email text,
  -- root of the link to the file, as the one who asked knows this registry
  base_url text not null,
  -- queued: the file is to be made; made: somebody is to be told; done and failed: nothing is left to do
  state text not null default 'queued' check (state in ('queued', 'made', 'done', 'failed')),
  -- what is told: success, failed or timedout
  outcome text,
  -- why it failed, for the operator
  reason text,
  -- the file's name is not to be guessed; known before the file is, so that what a crash leaves is found
  file_id text not null unique,
  location text not null,
  -- the unfinished upload of the file: one for each try, so that a slow instance cannot end the next one's
  upload_id text,
  upload_state text,
  due_ms bigint not null,
  lease_until_ms bigint,
  lease_owner text,
  attempts_left integer not null,
  created_ms bigint not null,
  expires_ms bigint not null
);
create index log_export_due on log_export (due_ms) where state in ('queued', 'made');
create index log_export_by_expiry on log_export (expires_ms);
create index log_export_by_namespace on log_export (namespace_id, created_ms);

-- The one run of archiving at a time: who has it, and what it was writing.
create table log_rotation (
  id integer primary key check (id = 1),
  lease_until_ms bigint,
  lease_owner text,
  upload_id text,
  upload_location text,
  upload_state text,
  -- up to here entries are in a durable archive and only left to be deleted; ids above the last are not
  archived_created_ms bigint,
  archived_id bigint,
  archived_id_max bigint,
  -- when archiving last came to its end
  finished_ms bigint
);
insert into log_rotation (id) values (1);
