-- The digest under which a request has begun to store an upload's bytes, where `digest` does not say so already. Should its
-- process die before the blob's row is there, this is how the bytes are found.
alter table upload_session add column blob_digest text;
