-- The schema that the migrations make, as SQLite has it. Written by "bun scripts/dump-schema.ts", read by people only.

CREATE TABLE account (
  id integer primary key autoincrement,
  uuid text not null unique,
  kind text not null check (kind in ('user', 'organization', 'robot')),
  username text not null unique,
  owner_id bigint references account (id),
  email text unique,
  password_hash text,
  -- robot tokens must be shown again to their owner, so they are encrypted, not hashed
  token_encrypted text,
  enabled boolean not null default true,
  verified boolean not null default false,
  -- set when the namespace is being purged in the background; its name is free again at once
  deleted_ms bigint,
  description text not null default '',
  metadata text not null default '{}',
  tag_expiration_s bigint not null,
  given_name text,
  family_name text,
  company text,
  location text,
  invoice_email boolean not null default false,
  invoice_email_address text,
  created_ms bigint not null,
  last_accessed_ms bigint,
  failed_logins integer not null default 0,
  last_failed_login_ms bigint, prompts text not null default '[]', superuser boolean not null default false, shared_email text, restore_name text, restore_email text, restore_shared_email text, restore_enabled boolean, restored_ms bigint,
  check ((kind = 'robot') = (owner_id is not null))
);

CREATE INDEX account_by_kind on account (kind, username);

CREATE INDEX account_by_owner on account (owner_id, username) where owner_id is not null;

CREATE INDEX account_deleted on account (deleted_ms) where deleted_ms is not null;

CREATE INDEX account_promoted on account (id) where superuser = true;

CREATE INDEX account_restorable on account (deleted_ms, id) where restore_name is not null and owner_id is null;

CREATE TABLE "action_log" (
  id integer primary key autoincrement,
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

CREATE INDEX action_log_by_namespace on action_log (namespace_id, created_ms, id, kind, entry_count);

CREATE INDEX action_log_by_namespace_performer on action_log (namespace_id, performer_id, created_ms, id);

CREATE INDEX action_log_by_performer on action_log (performer_id, created_ms, id);

CREATE INDEX action_log_by_repository on action_log (repository_id, created_ms, id, kind, entry_count);

CREATE INDEX action_log_by_time on action_log (created_ms, id, kind, entry_count);

CREATE TABLE app_token (
  id integer primary key autoincrement,
  uuid text not null unique,
  account_id bigint not null references account (id),
  title text not null,
  token_name text not null unique,
  token_encrypted text not null,
  created_ms bigint not null,
  expires_ms bigint,
  last_accessed_ms bigint
);

CREATE INDEX app_token_by_account on app_token (account_id, id);

CREATE INDEX app_token_by_expiry on app_token (expires_ms) where expires_ms is not null;

CREATE TABLE audit_exempt (
  username text primary key
);

CREATE TABLE authorized_email (
  repository_id bigint not null references repository (id),
  email text not null,
  code_hash text not null unique,
  confirmed boolean not null default false,
  created_ms bigint not null,
  primary key (repository_id, email)
);

CREATE TABLE autoprune_policy (
  id integer primary key autoincrement,
  uuid text not null unique,
  namespace_id bigint not null references account (id),
  -- null: for the whole namespace
  repository_id bigint references repository (id),
  method text not null check (method in ('number_of_tags', 'creation_date', 'last_pull_date')),
  -- a count, or a duration such as 5d, as it was given
  value text not null,
  tag_pattern text,
  tag_pattern_matches boolean not null default true,
  created_ms bigint not null
);

CREATE INDEX autoprune_policy_by_namespace on autoprune_policy (namespace_id, repository_id);

CREATE INDEX autoprune_policy_by_repository on autoprune_policy (repository_id) where repository_id is not null;

CREATE UNIQUE INDEX autoprune_policy_rule on autoprune_policy
  (namespace_id, coalesce(repository_id, 0), method, value, coalesce(tag_pattern, ''), tag_pattern_matches);

CREATE TABLE berth_change (id integer primary key autoincrement, origin text not null, keys text not null);

CREATE TABLE blob (
  id integer primary key autoincrement,
  digest text not null unique,
  size_bytes bigint not null,
  state text not null default 'live' check (state in ('live', 'deleting')),
  created_ms bigint not null
, lease_until_ms bigint not null default 0);

CREATE INDEX blob_due on blob (lease_until_ms, id) where lease_until_ms > 0;

CREATE TABLE blob_bad_copy (
  blob_id bigint not null references blob (id),
  location text not null,
  kind text not null check (kind in ('digest', 'size', 'missing', 'lost')),
  -- what was found instead: a digest, a size in bytes, or nothing
  found text not null default '',
  found_ms bigint not null,
  -- when to try again to repair it; null when there is nothing to repair it from
  retry_ms bigint,
  primary key (blob_id, location)
);

CREATE INDEX blob_bad_copy_by_location on blob_bad_copy (location, kind, blob_id);

CREATE INDEX blob_bad_copy_due on blob_bad_copy (location, retry_ms) where retry_ms is not null;

CREATE TABLE blob_copy (
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

CREATE INDEX blob_copy_by_location on blob_copy (location, updated_ms);

CREATE TABLE blob_placement (
  blob_id bigint not null references blob (id),
  location text not null,
  primary key (blob_id, location)
);

CREATE TABLE default_permission (
  id integer primary key autoincrement,
  uuid text not null unique,
  organization_id bigint not null references account (id),
  activating_account_id bigint references account (id),
  delegate_account_id bigint references account (id),
  delegate_team_id bigint references team (id),
  role text not null check (role in ('read', 'write', 'admin')),
  check ((delegate_account_id is null) <> (delegate_team_id is null))
);

CREATE INDEX default_permission_by_activating on default_permission (activating_account_id)
  where activating_account_id is not null;

CREATE INDEX default_permission_by_delegate on default_permission (delegate_account_id) where delegate_account_id is not null;

CREATE INDEX default_permission_by_delegate_team on default_permission (delegate_team_id) where delegate_team_id is not null;

CREATE INDEX default_permission_by_organization on default_permission (organization_id, activating_account_id);

CREATE UNIQUE INDEX default_permission_rule on default_permission
  (organization_id, coalesce(activating_account_id, 0), coalesce(delegate_account_id, 0), coalesce(delegate_team_id, 0));

CREATE TABLE email_code (
  code_hash text primary key,
  account_id bigint not null references account (id),
  kind text not null check (kind in ('confirm', 'recovery')),
  new_email text,
  created_ms bigint not null,
  expires_ms bigint not null
);

CREATE INDEX email_code_by_account on email_code (account_id);

CREATE INDEX email_code_by_expiry on email_code (expires_ms);

CREATE TABLE gc_freed (
  day bigint not null,
  -- "bytes", "blobs", "repositories", "namespaces", or "rows:" with the name of a table
  kind text not null,
  amount bigint not null,
  primary key (day, kind)
);

CREATE TABLE gc_repository (
  repository_id bigint primary key references repository (id),
  due_ms bigint not null
);

CREATE INDEX gc_repository_due on gc_repository (due_ms, repository_id);

CREATE TABLE gc_round (
  instance text primary key,
  started_ms bigint not null,
  -- its end, or when it was last heard of while it is under way
  noted_ms bigint not null,
  ended boolean not null,
  row_count bigint not null,
  blob_count bigint not null,
  size_bytes bigint not null
);

CREATE TABLE immutability_policy (
  id integer primary key autoincrement,
  uuid text not null unique,
  namespace_id bigint not null references account (id),
  -- null: for the whole namespace
  repository_id bigint references repository (id),
  tag_pattern text not null,
  tag_pattern_matches boolean not null default true,
  created_ms bigint not null
);

CREATE INDEX immutability_policy_by_namespace on immutability_policy (namespace_id, repository_id);

CREATE INDEX immutability_policy_by_repository on immutability_policy (repository_id) where repository_id is not null;

CREATE UNIQUE INDEX immutability_policy_rule on immutability_policy
  (namespace_id, coalesce(repository_id, 0), tag_pattern);

CREATE TABLE job (
  id integer primary key autoincrement,
  queue text not null,
  dedupe_key text,
  payload text not null,
  due_ms bigint not null,
  lease_until_ms bigint,
  lease_owner text,
  attempts_left integer not null,
  created_ms bigint not null
, lane text not null default '', again boolean not null default false);

CREATE UNIQUE INDEX job_dedupe on job (queue, dedupe_key) where dedupe_key is not null;

CREATE INDEX job_due on job (queue, lane, due_ms, id);

CREATE INDEX job_waiting on job (queue, lane, created_ms, lease_until_ms, attempts_left);

CREATE TABLE label (
  id integer primary key autoincrement,
  uuid text not null unique,
  repository_id bigint not null references repository (id),
  manifest_id bigint not null references manifest (id),
  key text not null,
  value text not null,
  media_type text not null,
  source_type text not null check (source_type in ('manifest', 'api', 'internal'))
);

CREATE INDEX label_by_manifest on label (manifest_id, key);

CREATE INDEX label_by_repository on label (repository_id);

CREATE TABLE log_export (
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

CREATE INDEX log_export_by_expiry on log_export (expires_ms);

CREATE INDEX log_export_by_namespace on log_export (namespace_id, created_ms);

CREATE INDEX log_export_due on log_export (due_ms) where state in ('queued', 'made');

CREATE TABLE log_rotation (
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

CREATE TABLE manifest (
  id integer primary key autoincrement,
  repository_id bigint not null references repository (id),
  digest text not null,
  kind text not null check (kind in ('image', 'index')),
  media_type text not null,
  artifact_type text,
  subject_digest text,
  config_media_type text,
  annotations text not null default '{}',
  size_bytes bigint not null,
  -- bytes of the blobs it names, as its descriptors say; kept so that lists need not sum
  layers_size_bytes bigint not null,
  created_ms bigint not null,
  -- protects an untagged manifest from collection (push by digest)
  lease_until_ms bigint,
  -- set when a client deletes it: gone from /v2 at once, restorable through the time machine until collected
  deleted_ms bigint,
  content blob not null, compressed_size_bytes bigint,
  unique (repository_id, digest)
);

CREATE INDEX manifest_by_subject on manifest (repository_id, subject_digest, digest) where subject_digest is not null;

CREATE INDEX manifest_due on manifest (lease_until_ms, id) where lease_until_ms is not null;

CREATE TABLE manifest_blob (
  manifest_id bigint not null references manifest (id),
  blob_id bigint not null references blob (id),
  repository_id bigint not null references repository (id),
  primary key (manifest_id, blob_id)
);

CREATE INDEX manifest_blob_by_blob on manifest_blob (repository_id, blob_id, manifest_id);

CREATE INDEX manifest_blob_of_blob on manifest_blob (blob_id);

CREATE TABLE manifest_child (
  manifest_id bigint not null references manifest (id),
  position integer not null,
  repository_id bigint not null references repository (id),
  child_digest text not null,
  child_id bigint references manifest (id),
  primary key (manifest_id, position)
);

CREATE INDEX manifest_child_by_child on manifest_child (child_id) where child_id is not null;

CREATE INDEX manifest_child_by_digest on manifest_child (repository_id, child_digest);

CREATE TABLE manifest_missing_blob (
  repository_id bigint not null references repository (id),
  digest text not null,
  manifest_id bigint not null references manifest (id),
  primary key (repository_id, digest, manifest_id)
);

CREATE INDEX manifest_missing_blob_by_manifest on manifest_missing_blob (manifest_id);

CREATE TABLE manifest_pull (
  repository_id bigint not null references repository (id),
  manifest_digest text not null,
  pull_count bigint not null,
  last_pull_ms bigint not null, last_asked_ms bigint not null default 0,
  primary key (repository_id, manifest_digest)
);

CREATE TABLE message (
  id integer primary key autoincrement,
  uuid text not null unique,
  content text not null,
  severity text not null check (severity in ('info', 'warning', 'error')),
  media_type text not null check (media_type in ('text/plain', 'text/markdown')),
  created_ms bigint not null
);

CREATE TABLE namespace_blob (
  namespace_id bigint not null references account (id),
  blob_id bigint not null,
  generation bigint not null,
  repository_count bigint not null,
  primary key (namespace_id, blob_id)
);

CREATE TABLE namespace_quota (
  id integer primary key autoincrement,
  namespace_id bigint not null unique references account (id),
  limit_bytes bigint not null
);

CREATE TABLE namespace_quota_limit (
  id integer primary key autoincrement,
  quota_id bigint not null references namespace_quota (id),
  type text not null check (type in ('Warning', 'Reject')),
  threshold_percent integer not null,
  unique (quota_id, type, threshold_percent)
);

CREATE TABLE namespace_usage (
  namespace_id bigint primary key references account (id),
  generation bigint not null default 1,
  size_bytes bigint not null default 0,
  backfill_state text not null default 'waiting' check (backfill_state in ('dropped', 'waiting', 'running', 'complete'))
);

CREATE INDEX namespace_usage_unfinished on namespace_usage (namespace_id) where backfill_state <> 'complete';

CREATE TABLE oauth_application (
  id integer primary key autoincrement,
  client_id text not null unique,
  client_secret_encrypted text,
  organization_id bigint not null references account (id),
  name text not null,
  redirect_uri text not null default '',
  application_uri text not null default '',
  description text not null default '',
  avatar_email text,
  created_ms bigint not null
);

CREATE INDEX oauth_application_by_organization on oauth_application (organization_id, id);

CREATE TABLE oauth_assignment (
  id integer primary key autoincrement,
  uuid text not null unique,
  application_id bigint not null references oauth_application (id),
  account_id bigint not null references account (id),
  redirect_uri text not null,
  scope text not null,
  response_type text not null,
  created_ms bigint not null
);

CREATE INDEX oauth_assignment_by_account on oauth_assignment (account_id, id);

CREATE UNIQUE INDEX oauth_assignment_once on oauth_assignment (application_id, account_id);

CREATE TABLE oauth_code (
  code_name text primary key,
  code_hash text not null,
  application_id bigint not null references oauth_application (id),
  account_id bigint not null references account (id),
  scope text not null,
  redirect_uri text not null,
  token_uuid text,
  expires_ms bigint not null
);

CREATE INDEX oauth_code_by_account on oauth_code (account_id);

CREATE INDEX oauth_code_by_application on oauth_code (application_id);

CREATE INDEX oauth_code_by_expiry on oauth_code (expires_ms);

CREATE TABLE oauth_token (
  id integer primary key autoincrement,
  uuid text not null unique,
  application_id bigint not null references oauth_application (id),
  account_id bigint not null references account (id),
  token_name text not null unique,
  token_hash text not null,
  scope text not null,
  created_ms bigint not null,
  expires_ms bigint not null
, title text, last_accessed_ms bigint);

CREATE INDEX oauth_token_by_application on oauth_token (application_id, id);

CREATE INDEX oauth_token_by_expiry on oauth_token (expires_ms);

CREATE INDEX oauth_token_by_owner on oauth_token (account_id, id);

CREATE INDEX oauth_token_consent on oauth_token (account_id, application_id, id);

CREATE TABLE prune_repository (
  repository_id bigint primary key references repository (id),
  due_ms bigint not null
, pulls_due_ms bigint not null default 0);

CREATE INDEX prune_repository_due on prune_repository (due_ms, repository_id);

CREATE TABLE repository (
  id integer primary key autoincrement,
  namespace_id bigint not null references account (id),
  name text not null,
  -- "namespace/name": kept beside its parts so that a pull finds the row by one key and lists sort by one index
  path text not null unique,
  kind text not null default 'image' check (kind in ('image', 'application')),
  visibility text not null check (visibility in ('public', 'private')),
  state text not null default 'NORMAL' check (state in ('NORMAL', 'READ_ONLY', 'MIRROR', 'MARKED_FOR_DELETION')),
  description text not null default '',
  trust_enabled boolean not null default false,
  created_ms bigint not null,
  last_modified_ms bigint,
  deleted_ms bigint, restore_name text, restore_state text,
  unique (namespace_id, name)
);

CREATE INDEX repository_all_of_namespace on repository (namespace_id, id);

CREATE INDEX repository_by_namespace on repository (namespace_id, path, kind, deleted_ms) where deleted_ms is null;

CREATE INDEX repository_deleted on repository (deleted_ms) where deleted_ms is not null;

CREATE INDEX repository_public on repository (path, kind, visibility, deleted_ms)
  where visibility = 'public' and deleted_ms is null;

CREATE INDEX repository_restorable on repository (namespace_id, deleted_ms, id) where restore_name is not null;

CREATE TABLE repository_action_count (
  repository_id bigint not null references repository (id),
  day integer not null,
  action_count bigint not null,
  primary key (repository_id, day)
);

CREATE TABLE repository_blob (
  repository_id bigint not null references repository (id),
  blob_id bigint not null references blob (id),
  lease_until_ms bigint not null,
  deleted_ms bigint,
  created_ms bigint not null,
  primary key (repository_id, blob_id)
);

CREATE INDEX repository_blob_by_blob on repository_blob (blob_id, repository_id);

CREATE INDEX repository_blob_due on repository_blob (lease_until_ms, repository_id) where lease_until_ms > 0;

CREATE TABLE repository_permission (
  id integer primary key autoincrement,
  repository_id bigint not null references repository (id),
  account_id bigint references account (id),
  team_id bigint references team (id),
  role text not null check (role in ('read', 'write', 'admin')),
  check ((account_id is null) <> (team_id is null))
);

CREATE UNIQUE INDEX repository_permission_account on repository_permission (account_id, repository_id) where account_id is not null;

CREATE INDEX repository_permission_repository on repository_permission (repository_id);

CREATE UNIQUE INDEX repository_permission_team on repository_permission (team_id, repository_id) where team_id is not null;

CREATE TABLE repository_usage (
  repository_id bigint primary key references repository (id),
  generation bigint not null,
  counted_through bigint not null,
  size_bytes bigint not null
);

CREATE TABLE repository_word (
  repository_id bigint not null references repository (id),
  word text not null,
  namespace_id bigint not null,
  public boolean not null,
  primary key (word, repository_id)
);

CREATE INDEX repository_word_by_namespace on repository_word (namespace_id, word, repository_id);

CREATE INDEX repository_word_by_repository on repository_word (repository_id, word);

CREATE INDEX repository_word_public on repository_word (word, repository_id, public) where public = true;

CREATE TABLE retired_member (
  team_id bigint not null references team (id),
  account_id bigint not null references account (id),
  primary key (team_id, account_id)
);

CREATE INDEX retired_member_by_account on retired_member (account_id);

CREATE TABLE retired_role (
  repository_id bigint not null references repository (id),
  account_id bigint not null references account (id),
  role text not null check (role in ('read', 'write', 'admin')),
  primary key (repository_id, account_id)
);

CREATE INDEX retired_role_by_account on retired_role (account_id);

CREATE TABLE robot_federation (
  robot_id bigint not null references account (id),
  issuer text not null,
  subject text not null,
  primary key (robot_id, issuer, subject)
);

CREATE TABLE schema_migration (
    id bigint not null primary key, name text not null, applied_ms bigint not null, checksum text not null);

CREATE TABLE scrub_pass (
  location text primary key,
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

CREATE TABLE service_key (
  kid text primary key,
  service text not null,
  name text not null default '',
  public_jwk text not null,
  private_encrypted text,
  metadata text not null default '{}',
  created_ms bigint not null,
  expires_ms bigint,
  rotate_ms bigint,
  approval_type text,
  approved_ms bigint,
  approver_id bigint references account (id)
, approval_notes text not null default '', rotation_duration_s bigint);

CREATE INDEX service_key_by_service on service_key (service, created_ms);

CREATE TABLE session (
  id_hash text primary key,
  uuid text not null unique,
  account_id bigint not null references account (id),
  created_ms bigint not null,
  -- when the password was last asked for: some changes want that to be lately
  fresh_ms bigint not null,
  used_ms bigint not null,
  expires_ms bigint not null,
  ip text,
  user_agent text
);

CREATE INDEX session_by_account on session (account_id);

CREATE INDEX session_by_expiry on session (expires_ms);

CREATE TABLE setting (
  key text primary key,
  value text not null
);

CREATE TABLE star (
  account_id bigint not null references account (id),
  repository_id bigint not null references repository (id),
  created_ms bigint not null,
  primary key (account_id, repository_id)
);

CREATE INDEX star_by_repository on star (repository_id);

CREATE TABLE tag (
  id integer primary key autoincrement,
  repository_id bigint not null references repository (id),
  name text not null,
  manifest_id bigint not null references manifest (id),
  start_ms bigint not null,
  end_ms bigint,
  expires_ms bigint,
  hidden boolean not null default false,
  reversion boolean not null default false,
  immutable boolean not null default false
, immutability_lifted boolean not null default false);

CREATE INDEX tag_by_manifest on tag (manifest_id);

CREATE UNIQUE INDEX tag_current on tag (repository_id, name) where end_ms is null;

CREATE INDEX tag_ended on tag (repository_id, end_ms) where end_ms is not null;

CREATE INDEX tag_expiring on tag (expires_ms) where expires_ms is not null and end_ms is null;

CREATE INDEX tag_expiring_in_repository on tag (repository_id, id) where expires_ms is not null and end_ms is null;

CREATE INDEX tag_history on tag (repository_id, name, start_ms);

CREATE INDEX tag_listed on tag (repository_id, name, expires_ms, hidden, end_ms)
  where end_ms is null and hidden = false;

CREATE INDEX tag_newest on tag (repository_id, start_ms, id, name, hidden) where hidden = false;

CREATE INDEX tag_newest_alive on tag (repository_id, start_ms, id, name, expires_ms, hidden, end_ms)
  where end_ms is null and hidden = false;

CREATE TABLE tag_pull (
  repository_id bigint not null references repository (id),
  tag_name text not null,
  pull_count bigint not null,
  last_pull_ms bigint not null,
  last_manifest_digest text not null,
  primary key (repository_id, tag_name)
);

CREATE TABLE team (
  id integer primary key autoincrement,
  organization_id bigint not null references account (id),
  name text not null,
  role text not null check (role in ('member', 'creator', 'admin')),
  description text not null default '',
  created_ms bigint not null,
  unique (organization_id, name)
);

CREATE TABLE team_invite (
  id integer primary key autoincrement,
  code_hash text not null unique,
  team_id bigint not null references team (id),
  account_id bigint references account (id),
  email text,
  inviter_id bigint not null references account (id),
  created_ms bigint not null,
  check ((account_id is null) <> (email is null))
);

CREATE UNIQUE INDEX team_invite_account on team_invite (team_id, account_id) where account_id is not null;

CREATE INDEX team_invite_by_account on team_invite (account_id) where account_id is not null;

CREATE UNIQUE INDEX team_invite_email on team_invite (team_id, email) where email is not null;

CREATE TABLE team_member (
  team_id bigint not null references team (id),
  account_id bigint not null references account (id),
  primary key (team_id, account_id)
);

CREATE INDEX team_member_by_account on team_member (account_id, team_id);

CREATE TABLE upload_session (
  id text primary key,
  repository_id bigint not null references repository (id),
  account_id bigint not null references account (id),
  principal text not null,
  location text not null,
  storage_state text not null,
  digest_algorithm text not null,
  offset_bytes bigint not null,
  created_ms bigint not null,
  expires_ms bigint not null
, digest text, writer text, writer_until_ms bigint, blob_digest text);

CREATE INDEX upload_session_by_expiry on upload_session (expires_ms);

CREATE INDEX upload_session_by_repository on upload_session (repository_id);

CREATE TABLE user_notification (
  id integer primary key autoincrement,
  uuid text not null unique,
  account_id bigint not null references account (id),
  kind text not null,
  organization_id bigint references account (id),
  metadata text not null,
  dismissed boolean not null default false,
  -- names what it is about, so that the notice can be taken back when that is settled
  subject_key text,
  created_ms bigint not null
);

CREATE INDEX user_notification_by_account on user_notification (account_id, dismissed, created_ms, id);

CREATE INDEX user_notification_by_organization on user_notification (organization_id) where organization_id is not null;

CREATE INDEX user_notification_by_subject on user_notification (subject_key) where subject_key is not null;
