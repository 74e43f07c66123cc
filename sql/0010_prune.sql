-- Repositories in which an auto-prune policy may have something to end, and when to look.
create table prune_repository (
  repository_id bigint primary key references repository (id),
  due_ms bigint not null
);
create index prune_repository_due on prune_repository (due_ms, repository_id);

-- What policies were waiting for since before anybody pruned.
insert into prune_repository (repository_id, due_ms)
select r.id, 0 from repository r
where r.deleted_ms is null
  and exists (select 1 from autoprune_policy p
              where p.namespace_id = r.namespace_id and (p.repository_id is null or p.repository_id = r.id));
