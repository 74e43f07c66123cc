-- What garbage collection has freed, for those who look.

-- Sums of each day (UTC, counted from 1970), written by whoever has collected something: some rows a day.
create table gc_freed (
  day bigint not null,
  -- "bytes", "blobs", "repositories", "namespaces", or "rows:" with the name of a table
  kind text not null,
  amount bigint not null,
  primary key (day, kind)
);

-- Of each instance that has collected something lately, its last round that did.
create table gc_round (
  instance text primary key,
  started_ms bigint not null,
  -- its end, or when it was last heard of while it is under way
  noted_ms bigint not null,
  ended {{bool}} not null,
  row_count bigint not null,
  blob_count bigint not null,
  size_bytes bigint not null
);
