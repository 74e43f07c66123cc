-- Garbage collection goes by what changed, and never looks through a table.

-- A lease protects a row, and its end is when somebody looks whether anything else keeps it: "null" (or 0) is a row that was
-- looked at and is kept by what points at it. Whatever stops pointing at it makes it due again.
create index manifest_due on manifest (lease_until_ms, id) where lease_until_ms is not null;
create index repository_blob_due on repository_blob (lease_until_ms, repository_id) where lease_until_ms > 0;

-- Of a blob that is being deleted, the lease of the one who does it.
alter table blob add column lease_until_ms bigint not null default 0;
create index blob_due on blob (lease_until_ms, id) where lease_until_ms > 0;

-- Repositories where lifetimes of tags have ended, and when the first of them leaves the time machine.
create table gc_repository (
  repository_id bigint primary key references repository (id),
  due_ms bigint not null
);
create index gc_repository_due on gc_repository (due_ms, repository_id);

-- What happened before anybody collected.
insert into gc_repository (repository_id, due_ms) select distinct repository_id, 0 from tag where end_ms is not null;
update manifest set lease_until_ms = 1 where lease_until_ms is null;
update blob set lease_until_ms = 1;
