-- Finding repositories and namespaces by a part of their name without reading all of them.

-- One row for each place in a repository's name where a word begins, holding the name from there on: "api/web-ui" gives
-- "api/web-ui", "web-ui" and "ui". A search is then a range of this index.
create table repository_word (
  repository_id bigint not null references repository (id),
  word {{text_c}} not null,
  primary key (word, repository_id)
);
create index repository_word_by_repository on repository_word (repository_id);
