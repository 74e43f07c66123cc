-- When somebody last asked for a manifest without pulling it: a cluster that holds an image asks whether it is still current.
-- 0: never since this is noted.
alter table manifest_pull add column last_asked_ms bigint not null default 0;
