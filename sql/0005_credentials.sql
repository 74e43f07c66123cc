-- Ways to log in beside passwords: app-specific tokens, OAuth codes and tokens, federated robots. Times are epoch ms.

-- The first 60 characters find the row; the whole is shown again to its owner, so it is encrypted, not hashed.
create table app_token (
  id {{id}},
  uuid text not null unique,
  account_id bigint not null references account (id),
  title text not null,
  token_name text not null unique,
  token_encrypted text not null,
  created_ms bigint not null,
  expires_ms bigint,
  last_accessed_ms bigint
);
create index app_token_by_account on app_token (account_id, id);
create index app_token_by_expiry on app_token (expires_ms) where expires_ms is not null;

-- A code of the authorization-code flow: used once, within minutes. It stays until it expires, naming the token it gave,
-- so that a second use is recognised as theft and ends that token.
create table oauth_code (
  code_name text primary key,
  code_hash text not null,
  application_id bigint not null references oauth_application (id),
  account_id bigint not null references account (id),
  scope text not null,
  redirect_uri text not null,
  token_uuid text,
  expires_ms bigint not null
);
create index oauth_code_by_application on oauth_code (application_id);
create index oauth_code_by_account on oauth_code (account_id);
create index oauth_code_by_expiry on oauth_code (expires_ms);

-- What an organization's admin asked a user to approve: a token for that user, with these scopes.
create table oauth_assignment (
  id {{id}},
  uuid text not null unique,
  application_id bigint not null references oauth_application (id),
  account_id bigint not null references account (id),
  redirect_uri text not null,
  scope text not null,
  response_type text not null,
  created_ms bigint not null
);
create index oauth_assignment_by_account on oauth_assignment (account_id, id);
create unique index oauth_assignment_once on oauth_assignment (application_id, account_id);

-- Set for tokens that an admin made for the application without a browser; null for those that somebody consented to.
alter table oauth_token add column title text;
alter table oauth_token add column last_accessed_ms bigint;
create index oauth_token_by_application on oauth_token (application_id, id);
create index oauth_token_by_owner on oauth_token (account_id, id);
create index oauth_token_consent on oauth_token (account_id, application_id, id);
create index oauth_token_by_expiry on oauth_token (expires_ms);
drop index oauth_token_by_account;
create index oauth_application_by_organization on oauth_application (organization_id, id);

-- Whose ID tokens a robot takes in place of its own token.
create table robot_federation (
  robot_id bigint not null references account (id),
  issuer text not null,
  subject text not null,
  primary key (robot_id, issuer, subject)
);
