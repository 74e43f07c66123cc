-- Uploads that any instance may go on with.

-- Digest of the first offset_bytes in the session's algorithm, null when no instance knows it: whoever finishes the upload
-- then reads the stored part back. The writer is the request that holds the session in a store where two of them could
-- write into one file; its claim ends by itself.
alter table upload_session add column digest {{text_c}};
alter table upload_session add column writer text;
alter table upload_session add column writer_until_ms bigint;
