/**
 * The contract of a blob store: content-addressed objects with streaming, resumable uploads, and a few named files beside
 * them (archives, exports) that go the same way. A driver moves bytes and knows nothing of repositories, digests' meaning
 * or access; keys come from `paths.ts`. Every driver passes the suite in `test/storage/contract.ts`.
 */

/** The bytes of a stored object, for this process to send or to read. Sizes in bytes. */
export type ObjectSource =
  /** On this machine's disk: sent with sendfile. */
  | { readonly kind: "file"; readonly path: string; readonly sizeBytes: number }
  /** Piped through us. `open` may be called once; `start` and `end` are inclusive byte offsets. */
  | {
      readonly kind: "stream";
      readonly sizeBytes: number;
      open(range?: { start: number; end: number }): Promise<ReadableStream<Uint8Array>>;
    };

/** Who is sent to the store by itself. */
export interface ClientUrlRequest {
  /** A signed URL is good for one method. */
  readonly method: "GET" | "HEAD";
  /** Namespace of the repository that is pulled from, when it is a blob: some delivery networks go by it. */
  readonly namespace?: string;
}

/** One client request's worth of bytes on its way into an upload. */
export interface UploadWriter {
  /**
   * Takes the next bytes. Resolves (or returns) when more may be sent, so that memory stays bounded whatever the client's
   * speed. The chunk may be kept until the returned promise resolves and must not be changed before.
   */
  write(chunk: Uint8Array): Promise<void> | void;
  /**
   * Ends this request's bytes: everything written so far can be resumed from. Gives the new driver state to keep. Errors of
   * writes that were still running come out here at the latest; after one, call `abort`.
   */
  flush(): Promise<string>;
  /**
   * Gives up on what this writer wrote and has not flushed; the upload stays usable at its last flushed offset. Does nothing
   * after a flush that succeeded. A writer must end with flush or abort.
   */
  abort(): Promise<void>;
}

export interface StorageDriver {
  /** Quay's name of the engine in DISTRIBUTED_STORAGE_CONFIG, such as `LocalStorage`. */
  readonly kind: string;
  /** `find` asks this machine's disk and not another server: it costs less than a query. */
  readonly isLocal: boolean;
  /**
   * Each writer of an upload has a place of its own, so that a request that hangs in another process cannot write into what
   * a later one continues. Where it is false, the caller must see to it that one process writes at a time.
   */
  readonly fencesWriters: boolean;
  /** Chunks of an upload, but the last one, should be this long: shorter ones are stored more than once on their way. */
  readonly chunkBytesMin?: number;

  /** Finds an object, undefined when there is none. */
  find(key: string): Promise<{ sizeBytes: number } | undefined>;
  /**
   * The bytes of an object, undefined when there is none. A caller that knows the size gives it: a store on another machine
   * then need not be asked before the first byte, and tells only in `open` that it has no such object.
   */
  source(key: string, sizeBytes?: number): Promise<ObjectSource | undefined>;
  /**
   * A URL with which a client fetches the object from the store itself, for a short while; absent where a store can only be
   * read through us. Asks the store nothing: the object may be gone.
   */
  clientUrl?(key: string, request: ClientUrlRequest): Promise<string>;
  /** Removes an object; removing what is not there is no error. */
  delete(key: string): Promise<void>;

  /** Starts an upload and gives the driver's state for it: opaque text, kept by the caller in its session row. */
  createUpload(uploadId: string): Promise<string>;
  /**
   * Opens an upload for more bytes at `offsetBytes`, which must be what is stored (bytes past it, left by a crash, are
   * dropped). Throws `blob_upload_unknown` when the upload is gone or holds less than `offsetBytes`.
   *
   * With `lastKey` these are the last bytes and will be committed under that key by this process, if their digest holds: a
   * driver may write them there unseen, or hold a small object until then. The state that `flush` gives is then good for
   * `commitUpload` and `deleteUpload` of this process only, and for ten minutes; the upload's earlier state stays good for a
   * new try, except after `commitUpload` or `deleteUpload`.
   */
  openUpload(uploadId: string, state: string, offsetBytes: number, lastKey?: string): Promise<UploadWriter>;
  /** Reads back the first `sizeBytes` of an unfinished upload, to compute its hash where nobody kept it. */
  readUpload(uploadId: string, state: string, sizeBytes: number): Promise<ReadableStream<Uint8Array>>;
  /**
   * Makes the upload's bytes the object `key`, durable against power loss before it resolves. An object already there is
   * replaced: a blob by the same bytes, a named file by the new ones, and a reader sees one or the other. Afterwards the upload is gone. Throws `size_invalid` when not exactly `sizeBytes` bytes
   * were flushed (the upload stays as it was), and `blob_upload_unknown` when the upload is gone, even if `key` exists.
   */
  commitUpload(uploadId: string, state: string, key: string, sizeBytes: number): Promise<void>;
  /** Drops an unfinished upload and its bytes; dropping what is not there is no error. */
  deleteUpload(uploadId: string, state: string): Promise<void>;

  /**
   * Removes up to `limit` unfinished uploads, parts and temporary objects that nobody has touched since `beforeMs` (epoch ms,
   * by the store's clock): what a crash left and no session row tells of. Gives how many; 0 when there are none left.
   */
  cleanUploads(beforeMs: number, limit: number): Promise<number>;

  /** Throws `unavailable` (with the cause) when objects cannot be read or written now. Cheap enough for every second. */
  check(): Promise<void>;
  /** Free and total bytes of the store, undefined where that has no meaning (object stores). */
  space(): Promise<{ freeBytes: number; totalBytes: number } | undefined>;
}
