-- Tag history in the order of time, policies that make tags immutable or prune them, and how often images are pulled.
-- Times are epoch milliseconds.

-- An admin let this lifetime be changed although a policy says otherwise; the next lifetime is under the policy again.
alter table tag add column immutability_lifted {{bool}} not null default false;
-- Bytes of an image's layers without its config: the size of a tag. Null for indexes and for what was pushed before.
alter table manifest add column compressed_size_bytes bigint;

-- Pages of a repository's history, and of its living tags, newest first, without touching the rows that are skipped.
create index tag_newest on tag (repository_id, start_ms, id, name, hidden) where hidden = false;
create index tag_newest_alive on tag (repository_id, start_ms, id, name, expires_ms, hidden, end_ms)
  where end_ms is null and hidden = false;
-- Tags that a new immutability policy would contradict.
create index tag_expiring_in_repository on tag (repository_id, id) where expires_ms is not null and end_ms is null;

-- A tag whose name matches (or does not, with matches = false) is immutable.
create table immutability_policy (
  id {{id}},
  uuid text not null unique,
  namespace_id bigint not null references account (id),
  -- null: for the whole namespace
  repository_id bigint references repository (id),
  tag_pattern text not null,
  tag_pattern_matches {{bool}} not null default true,
  created_ms bigint not null
);
create unique index immutability_policy_rule on immutability_policy
  (namespace_id, coalesce(repository_id, 0), tag_pattern);
create index immutability_policy_by_namespace on immutability_policy (namespace_id, repository_id);

create table autoprune_policy (
  id {{id}},
  uuid text not null unique,
  namespace_id bigint not null references account (id),
  -- null: for the whole namespace
  repository_id bigint references repository (id),
  method text not null check (method in ('number_of_tags', 'creation_date')),
  -- a count, or a duration such as 5d, as it was given
  value text not null,
  tag_pattern text,
  tag_pattern_matches {{bool}} not null default true,
  created_ms bigint not null
);
create unique index autoprune_policy_rule on autoprune_policy
  (namespace_id, coalesce(repository_id, 0), method, value, coalesce(tag_pattern, ''), tag_pattern_matches);
create index autoprune_policy_by_namespace on autoprune_policy (namespace_id, repository_id);

-- Pulls, added in batches beside the answers. Counts may lag by some seconds and never go backwards.
create table tag_pull (
  repository_id bigint not null references repository (id),
  tag_name {{text_c}} not null,
  pull_count bigint not null,
  last_pull_ms bigint not null,
  last_manifest_digest {{text_c}} not null,
  primary key (repository_id, tag_name)
);
create table manifest_pull (
  repository_id bigint not null references repository (id),
  manifest_digest {{text_c}} not null,
  pull_count bigint not null,
  last_pull_ms bigint not null,
  primary key (repository_id, manifest_digest)
);
-- Pulls and pushes of a repository by day (days since the epoch, UTC): the figures on its page and its popularity.
create table repository_action_count (
  repository_id bigint not null references repository (id),
  day integer not null,
  action_count bigint not null,
  primary key (repository_id, day)
);
