-- Finding repositories by a part of their name without reading all of them, and lists by kind.

-- One row for each place in a repository's name where a word begins, holding the name from there on: "api/web-ui" gives
-- "api/web-ui", "web-ui" and "ui". A search is then a range of an index. Namespace and visibility stand here again so
-- that each way to a right has its own range: all, one namespace's, the public ones, one repository's.
create table repository_word (
  repository_id bigint not null references repository (id),
  word {{text_c}} not null,
  namespace_id bigint not null,
  public {{bool}} not null,
  primary key (word, repository_id)
);

-- The words of what is there already; later ones are written with their repository (domain/repository/words.ts).
with recursive place (n) as (select 1 union all select n + 1 from place where n < (select max(length(name)) from repository))
insert into repository_word (repository_id, word, namespace_id, public)
select r.id, substr(r.name, p.n), r.namespace_id, r.visibility = 'public'
from repository r join place p on p.n <= length(r.name)
where r.deleted_ms is null and substr(r.name, p.n, 1) not in ('.', '_', '-', '/')
  and (p.n = 1 or substr(r.name, p.n - 1, 1) in ('.', '_', '-', '/'))
-- in the order of the key, and the other indexes after it: several times faster
order by substr(r.name, p.n), r.id;

create index repository_word_by_repository on repository_word (repository_id, word);
create index repository_word_by_namespace on repository_word (namespace_id, word, repository_id);
create index repository_word_public on repository_word (word, repository_id, public) where public = true;

-- As before, and the kind with them: lists show one kind, and must not read the rows to tell.
drop index repository_by_namespace;
create index repository_by_namespace on repository (namespace_id, path, kind, deleted_ms) where deleted_ms is null;
drop index repository_public;
create index repository_public on repository (path, kind, visibility, deleted_ms)
  where visibility = 'public' and deleted_ms is null;
