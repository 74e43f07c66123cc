-- Policies that make tags immutable or prune them, and how often images are pulled. Times are epoch milliseconds.

-- A tag whose name matches (or does not, with matches = false) is immutable from its push on.
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
create index tag_newest on tag (repository_id, start_ms, id);
