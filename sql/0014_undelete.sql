-- Deleted repositories, organizations and users can be restored for the time machine's window of their namespace.

-- What a deleted repository was called, when it was deleted by itself: one that went with its namespace comes back with it.
alter table repository add column restore_name text;
-- The state it had; null when it lives or is being removed.
alter table repository add column restore_state text;
create index repository_restorable on repository (namespace_id, deleted_ms, id) where restore_name is not null;

-- The same of accounts: null when one lives or is being removed.
alter table account add column restore_name text;
alter table account add column restore_email text;
alter table account add column restore_shared_email text;
alter table account add column restore_enabled boolean;
-- When it was restored last: what was given out before that opens nothing any more.
alter table account add column restored_ms bigint;
create index account_restorable on account (deleted_ms, id) where restore_name is not null and owner_id is null;

-- Members of the teams of a deleted organization, and what a deleted user was a member of. Kept apart, so that nothing that
-- asks for rights can come upon them.
create table retired_member (
  team_id bigint not null references team (id),
  account_id bigint not null references account (id),
  primary key (team_id, account_id)
);
create index retired_member_by_account on retired_member (account_id);

-- Roles of a deleted user on the repositories of others.
create table retired_role (
  repository_id bigint not null references repository (id),
  account_id bigint not null references account (id),
  role text not null check (role in ('read', 'write', 'admin')),
  primary key (repository_id, account_id)
);
create index retired_role_by_account on retired_role (account_id);
