-- The first schema: everything the product stands on. Times are epoch milliseconds, sizes are bytes, JSON is text.
-- Tokens in double braces are spelled per engine by src/db/migrate.ts.

-- Who and what can own or act: users, organizations and robots share one id space, so that a permission, a log entry or
-- an upload names an account whatever its kind. A robot's username is "owner+short" and owner_id is its namespace.
create table account (
  id {{id}},
  uuid text not null unique,
  kind text not null check (kind in ('user', 'organization', 'robot')),
  username {{text_c}} not null unique,
  owner_id bigint references account (id),
  email text unique,
  password_hash text,
  -- robot tokens must be shown again to their owner, so they are encrypted, not hashed
  token_encrypted text,
  enabled {{bool}} not null default true,
  verified {{bool}} not null default false,
  -- set when the namespace is being purged in the background; its name is free again at once
  deleted_ms bigint,
  description text not null default '',
  metadata text not null default '{}',
  tag_expiration_s bigint not null,
  given_name text,
  family_name text,
  company text,
  location text,
  invoice_email {{bool}} not null default false,
  invoice_email_address text,
  created_ms bigint not null,
  last_accessed_ms bigint,
  failed_logins integer not null default 0,
  last_failed_login_ms bigint,
  check ((kind = 'robot') = (owner_id is not null))
);
create index account_by_owner on account (owner_id, username) where owner_id is not null;
create index account_by_kind on account (kind, username);

create table team (
  id {{id}},
  organization_id bigint not null references account (id),
  name {{text_c}} not null,
  role text not null check (role in ('member', 'creator', 'admin')),
  description text not null default '',
  created_ms bigint not null,
  unique (organization_id, name)
);

create table team_member (
  team_id bigint not null references team (id),
  account_id bigint not null references account (id),
  primary key (team_id, account_id)
);
create index team_member_by_account on team_member (account_id, team_id);

create table repository (
  id {{id}},
  namespace_id bigint not null references account (id),
  name {{text_c}} not null,
  -- "namespace/name": kept beside its parts so that a pull finds the row by one key and lists sort by one index
  path {{text_c}} not null unique,
  kind text not null default 'image' check (kind in ('image', 'application')),
  visibility text not null check (visibility in ('public', 'private')),
  state text not null default 'NORMAL' check (state in ('NORMAL', 'READ_ONLY', 'MIRROR', 'MARKED_FOR_DELETION')),
  description text not null default '',
  trust_enabled {{bool}} not null default false,
  created_ms bigint not null,
  last_modified_ms bigint,
  deleted_ms bigint,
  unique (namespace_id, name)
);
-- These two serve lists without touching the rows; SQLite wants the columns of the condition in the key for that.
create index repository_by_namespace on repository (namespace_id, path, deleted_ms) where deleted_ms is null;
create index repository_public on repository (path, visibility, deleted_ms)
  where visibility = 'public' and deleted_ms is null;

-- One row per account or team and repository; namespaces' owners and admins need none.
create table repository_permission (
  id {{id}},
  repository_id bigint not null references repository (id),
  account_id bigint references account (id),
  team_id bigint references team (id),
  role text not null check (role in ('read', 'write', 'admin')),
  check ((account_id is null) <> (team_id is null))
);
create unique index repository_permission_account on repository_permission (account_id, repository_id) where account_id is not null;
create unique index repository_permission_team on repository_permission (team_id, repository_id) where team_id is not null;
create index repository_permission_repository on repository_permission (repository_id);

-- Quay's prototypes: what a new repository of the organization grants by itself.
create table default_permission (
  id {{id}},
  uuid text not null unique,
  organization_id bigint not null references account (id),
  activating_account_id bigint references account (id),
  delegate_account_id bigint references account (id),
  delegate_team_id bigint references team (id),
  role text not null check (role in ('read', 'write', 'admin')),
  check ((delegate_account_id is null) <> (delegate_team_id is null))
);
create index default_permission_by_organization on default_permission (organization_id, activating_account_id);

-- Bytes, once for the whole registry. "deleting" is the mark between the decision to collect a blob and its last byte
-- leaving the store; a push of the same digest revives or waits.
create table blob (
  id {{id}},
  digest {{text_c}} not null unique,
  size_bytes bigint not null,
  state text not null default 'live' check (state in ('live', 'deleting')),
  created_ms bigint not null
);

create table blob_placement (
  blob_id bigint not null references blob (id),
  location text not null,
  primary key (blob_id, location)
);

-- What makes a blob pullable in a repository. lease_until_ms protects it from collection while no manifest names it yet;
-- deleted_ms hides it at once when a client deletes it.
create table repository_blob (
  repository_id bigint not null references repository (id),
  blob_id bigint not null references blob (id),
  lease_until_ms bigint not null,
  deleted_ms bigint,
  created_ms bigint not null,
  primary key (repository_id, blob_id)
);
create index repository_blob_by_blob on repository_blob (blob_id, repository_id);

create table manifest (
  id {{id}},
  repository_id bigint not null references repository (id),
  digest {{text_c}} not null,
  kind text not null check (kind in ('image', 'index')),
  media_type text not null,
  artifact_type text,
  subject_digest {{text_c}},
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
  content {{bytes}} not null,
  unique (repository_id, digest)
);
create index manifest_by_subject on manifest (repository_id, subject_digest, digest) where subject_digest is not null;

-- Manifests an index names. child_id is null while the child has not been pushed (sparse index).
create table manifest_child (
  manifest_id bigint not null references manifest (id),
  position integer not null,
  repository_id bigint not null references repository (id),
  child_digest {{text_c}} not null,
  child_id bigint references manifest (id),
  primary key (manifest_id, position)
);
create index manifest_child_by_digest on manifest_child (repository_id, child_digest);
create index manifest_child_by_child on manifest_child (child_id) where child_id is not null;

create table manifest_blob (
  manifest_id bigint not null references manifest (id),
  blob_id bigint not null references blob (id),
  repository_id bigint not null references repository (id),
  primary key (manifest_id, blob_id)
);
create index manifest_blob_by_blob on manifest_blob (repository_id, blob_id);

-- Blobs a manifest names that were not there when it was pushed (FEATURE_SPARSE_MANIFEST): they become manifest_blob rows
-- when they arrive in the repository.
create table manifest_missing_blob (
  repository_id bigint not null references repository (id),
  digest {{text_c}} not null,
  manifest_id bigint not null references manifest (id),
  primary key (repository_id, digest, manifest_id)
);
create index manifest_missing_blob_by_manifest on manifest_missing_blob (manifest_id);

-- A tag's lifetimes. The row without end_ms is the current one; moving or deleting the tag ends it and history stays.
-- expires_ms is the planned end: past it the tag is dead although nobody has ended the row yet.
create table tag (
  id {{id}},
  repository_id bigint not null references repository (id),
  name {{text_c}} not null,
  manifest_id bigint not null references manifest (id),
  start_ms bigint not null,
  end_ms bigint,
  expires_ms bigint,
  hidden {{bool}} not null default false,
  reversion {{bool}} not null default false,
  immutable {{bool}} not null default false
);
create unique index tag_current on tag (repository_id, name) where end_ms is null;
-- Serves tag lists without touching the rows, so that a page costs the same out of a hundred tags and out of a million.
create index tag_listed on tag (repository_id, name, expires_ms, hidden, end_ms)
  where end_ms is null and hidden = false;
create index tag_history on tag (repository_id, name, start_ms);
create index tag_by_manifest on tag (manifest_id);
create index tag_ended on tag (repository_id, end_ms) where end_ms is not null;
create index tag_expiring on tag (expires_ms) where expires_ms is not null and end_ms is null;

create table label (
  id {{id}},
  uuid text not null unique,
  repository_id bigint not null references repository (id),
  manifest_id bigint not null references manifest (id),
  key text not null,
  value text not null,
  media_type text not null,
  source_type text not null check (source_type in ('manifest', 'api', 'internal'))
);
create index label_by_manifest on label (manifest_id, key);

-- An upload belongs to one repository and one principal and carries the grant it was started with.
create table upload_session (
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
);
create index upload_session_by_expiry on upload_session (expires_ms);
create index upload_session_by_repository on upload_session (repository_id);

-- Background work. queue is Quay's queue name; dedupe_key keeps one waiting job per subject.
create table job (
  id {{id}},
  queue text not null,
  dedupe_key text,
  payload text not null,
  due_ms bigint not null,
  lease_until_ms bigint,
  lease_owner text,
  attempts_left integer not null,
  created_ms bigint not null
);
create unique index job_dedupe on job (queue, dedupe_key) where dedupe_key is not null;
create index job_due on job (queue, due_ms);

create table action_log (
  id {{id}},
  kind text not null,
  namespace_id bigint references account (id),
  performer_id bigint references account (id),
  repository_id bigint references repository (id),
  ip text,
  metadata text not null,
  created_ms bigint not null
);
create index action_log_by_namespace on action_log (namespace_id, created_ms, id);
create index action_log_by_repository on action_log (repository_id, created_ms, id);
create index action_log_by_performer on action_log (performer_id, created_ms, id);
create index action_log_by_time on action_log (created_ms, id);

-- Limits a namespace was given, and the bytes it uses: counts are moved in the transaction that changes them.
create table namespace_quota (
  id {{id}},
  namespace_id bigint not null unique references account (id),
  limit_bytes bigint not null
);
create table namespace_quota_limit (
  id {{id}},
  quota_id bigint not null references namespace_quota (id),
  type text not null check (type in ('Warning', 'Reject')),
  threshold_percent integer not null,
  unique (quota_id, type, threshold_percent)
);
create table repository_usage (
  repository_id bigint primary key references repository (id),
  size_bytes bigint not null
);
create table namespace_usage (
  namespace_id bigint primary key references account (id),
  size_bytes bigint not null,
  backfill_state text not null default 'waiting' check (backfill_state in ('waiting', 'running', 'complete'))
);
-- How many repositories of the namespace hold a blob: the blob counts once.
create table namespace_blob (
  namespace_id bigint not null references account (id),
  blob_id bigint not null references blob (id),
  repository_count bigint not null,
  primary key (namespace_id, blob_id)
);

-- Keys that sign registry tokens, shared by all instances; the private half is encrypted.
create table service_key (
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
);
create index service_key_by_service on service_key (service, created_ms);

create table oauth_application (
  id {{id}},
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
-- The first 20 characters find the row, the rest is compared by hash. Source: quay-behaviour reference, section 1.
create table oauth_token (
  id {{id}},
  uuid text not null unique,
  application_id bigint not null references oauth_application (id),
  account_id bigint not null references account (id),
  token_name text not null unique,
  token_hash text not null,
  scope text not null,
  created_ms bigint not null,
  expires_ms bigint not null
);
create index oauth_token_by_account on oauth_token (account_id);

-- What the instances share and no config.yaml gave: generated secrets, state of one-time steps.
create table setting (
  key text primary key,
  value text not null
);
