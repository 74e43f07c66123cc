-- Sessions, stars, invitations, notices and what else accounts need for the REST API. Times are epoch milliseconds.

-- A browser's session. The cookie holds the random value, the row only its hash, so that a stolen dump opens nothing.
create table session (
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
create index session_by_account on session (account_id);
create index session_by_expiry on session (expires_ms);

-- Codes sent by mail: the row keeps the hash. new_email is what a confirmed change of address becomes.
create table email_code (
  code_hash text primary key,
  account_id bigint not null references account (id),
  kind text not null check (kind in ('confirm', 'recovery')),
  new_email text,
  created_ms bigint not null,
  expires_ms bigint not null
);
create index email_code_by_account on email_code (account_id);
create index email_code_by_expiry on email_code (expires_ms);

-- What a user is asked at the next visit (confirm_username, enter_name, enter_company), as JSON.
alter table account add column prompts text not null default '[]';

-- Made a superuser through the API, beside those that SUPER_USERS names.
alter table account add column superuser {{bool}} not null default false;
create index account_promoted on account (id) where superuser = true;

-- An organization's address when several may have the same one (FEATURE_ORG_SHARED_EMAIL); email is null then.
alter table account add column shared_email text;

create table star (
  account_id bigint not null references account (id),
  repository_id bigint not null references repository (id),
  created_ms bigint not null,
  primary key (account_id, repository_id)
);
create index star_by_repository on star (repository_id);

-- An invitation to a team: of a user, or of an address that has no account yet. The row keeps the code's hash.
create table team_invite (
  id {{id}},
  code_hash text not null unique,
  team_id bigint not null references team (id),
  account_id bigint references account (id),
  email text,
  inviter_id bigint not null references account (id),
  created_ms bigint not null,
  check ((account_id is null) <> (email is null))
);
create unique index team_invite_account on team_invite (team_id, account_id) where account_id is not null;
create unique index team_invite_email on team_invite (team_id, email) where email is not null;
create index team_invite_by_account on team_invite (account_id) where account_id is not null;

-- Notices in the web page, one row for each reader.
create table user_notification (
  id {{id}},
  uuid text not null unique,
  account_id bigint not null references account (id),
  kind text not null,
  organization_id bigint references account (id),
  metadata text not null,
  dismissed {{bool}} not null default false,
  -- names what it is about, so that the notice can be taken back when that is settled
  subject_key text,
  created_ms bigint not null
);
create index user_notification_by_account on user_notification (account_id, dismissed, created_ms, id);
create index user_notification_by_subject on user_notification (subject_key) where subject_key is not null;
create index user_notification_by_organization on user_notification (organization_id) where organization_id is not null;

-- Addresses that agreed to be told of events of a repository.
create table authorized_email (
  repository_id bigint not null references repository (id),
  email text not null,
  code_hash text not null unique,
  confirmed {{bool}} not null default false,
  created_ms bigint not null,
  primary key (repository_id, email)
);

-- The registry's notices to everybody.
create table message (
  id {{id}},
  uuid text not null unique,
  content text not null,
  severity text not null check (severity in ('info', 'warning', 'error')),
  media_type text not null check (media_type in ('text/plain', 'text/markdown')),
  created_ms bigint not null
);

alter table service_key add column approval_notes text not null default '';
alter table service_key add column rotation_duration_s bigint;

create unique index default_permission_rule on default_permission
  (organization_id, coalesce(activating_account_id, 0), coalesce(delegate_account_id, 0), coalesce(delegate_team_id, 0));
create index repository_deleted on repository (deleted_ms) where deleted_ms is not null;
create index account_deleted on account (deleted_ms) where deleted_ms is not null;
create index default_permission_by_delegate on default_permission (delegate_account_id) where delegate_account_id is not null;
create index default_permission_by_delegate_team on default_permission (delegate_team_id) where delegate_team_id is not null;
create index default_permission_by_activating on default_permission (activating_account_id)
  where activating_account_id is not null;
