-- Files of exported action logs, for as long as their link lives. Times are epoch milliseconds.
create table log_export (
  id text primary key,
  namespace_id bigint references account (id),
  repository_id bigint references repository (id),
  start_ms bigint not null,
  end_ms bigint not null,
  callback_url text,
  callback_email text,
  status text not null default 'queued',
  -- the file's name is not to be guessed
  file_id text unique,
  created_ms bigint not null,
  expires_ms bigint
);
create index log_export_by_expiry on log_export (expires_ms) where expires_ms is not null;
create index action_log_by_namespace_performer on action_log (namespace_id, performer_id, created_ms, id);
