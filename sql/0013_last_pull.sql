-- Auto-prune policies may go by the last pull.

-- No engine but PostgreSQL changes the condition of a column, so the table is made anew on both.
create table autoprune_policy_kept as
  select uuid, namespace_id, repository_id, method, value, tag_pattern, tag_pattern_matches, created_ms, id as place
  from autoprune_policy;
drop table autoprune_policy;
create table autoprune_policy (
  id {{id}},
  uuid text not null unique,
  namespace_id bigint not null references account (id),
  -- null: for the whole namespace
  repository_id bigint references repository (id),
  method text not null check (method in ('number_of_tags', 'creation_date', 'last_pull_date')),
  -- a count, or a duration such as 5d, as it was given
  value text not null,
  tag_pattern text,
  tag_pattern_matches {{bool}} not null default true,
  created_ms bigint not null
);
insert into autoprune_policy
  (uuid, namespace_id, repository_id, method, value, tag_pattern, tag_pattern_matches, created_ms)
select uuid, namespace_id, repository_id, method, value, tag_pattern, tag_pattern_matches, created_ms
from autoprune_policy_kept order by place;
drop table autoprune_policy_kept;
create unique index autoprune_policy_rule on autoprune_policy
  (namespace_id, coalesce(repository_id, 0), method, value, coalesce(tag_pattern, ''), tag_pattern_matches);
create index autoprune_policy_by_namespace on autoprune_policy (namespace_id, repository_id);

-- When the first tag of the repository may be due by its last pull. A push only ever makes that later, so pushes are
-- looked at without asking for the pulls of every tag.
alter table prune_repository add column pulls_due_ms bigint not null default 0;

-- With the manifest, so that one that names a blob is found however many do.
drop index manifest_blob_by_blob;
create index manifest_blob_by_blob on manifest_blob (repository_id, blob_id, manifest_id);
