/** The single steps of an upload, for tests that take them in another order than clients do. */
import { pushScope, type RegistryClient, uploadLocation, withDigest } from "../support/registry-client.ts";

export class UploadSteps {
  readonly client: RegistryClient;
  readonly repository: string;

  constructor(client: RegistryClient, repository: string) {
    this.client = client;
    this.repository = repository;
  }

  /** POST that opens a session; `query` with its question mark. */
  post(query = "", body?: Uint8Array<ArrayBuffer>): Promise<Response> {
    return this.send(`/v2/${this.repository}/blobs/uploads/${query}`, "POST", body);
  }

  /** Opens a session and gives its URL. Throws when it is refused. */
  async start(query = ""): Promise<string> {
    const response = await this.post(query);
    if (response.status !== 202) throw new Error(`POST: ${response.status} ${await response.text()}`);
    return uploadLocation(response);
  }

  patch(location: string, body: Uint8Array<ArrayBuffer>, range?: string): Promise<Response> {
    return this.send(location, "PATCH", body, range === undefined ? {} : { "content-range": range });
  }

  put(location: string, digest: string, body?: Uint8Array<ArrayBuffer>, range?: string): Promise<Response> {
    const headers: Record<string, string> = range === undefined ? {} : { "content-range": range };
    return this.send(withDigest(location, digest), "PUT", body, headers);
  }

  status(location: string): Promise<Response> {
    return this.send(location, "GET");
  }

  cancel(location: string): Promise<Response> {
    return this.send(location, "DELETE");
  }

  send(
    location: string,
    method: string,
    body?: Uint8Array<ArrayBuffer>,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    return this.client.request(location, {
      method,
      scope: pushScope(this.repository),
      headers: { ...(body === undefined ? {} : { "content-type": "application/octet-stream" }), ...headers },
      ...(body === undefined ? {} : { body }),
    });
  }
}
