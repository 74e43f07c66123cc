/**
 * Where one HTTP/1.1 message ends and the next begins, in bytes that pass by: enough for a proxy that sends each request to
 * another server and changes nothing. What it cannot read it leaves to the servers behind it.
 */

export interface MessageHead {
  /** Of a request; "" in a response. */
  readonly method: string;
  /** Of a response; 0 in a request. */
  readonly status: number;
  /** The connection ends with this message. */
  readonly closes: boolean;
}

/** A run of bytes that belongs to one message. */
export interface Piece {
  readonly bytes: Buffer;
  /** With the first bytes of a message, which hold its whole head. */
  readonly head?: MessageHead;
  /** These are the message's last bytes. */
  readonly ends: boolean;
}

type State =
  | { readonly in: "head" }
  | { readonly in: "length"; left: number }
  | { readonly in: "chunk-line"; line: string }
  | { readonly in: "chunk"; left: number }
  | { readonly in: "trailer"; line: string }
  /** Until the connection ends: a response without a length, or bytes that are no message. */
  | { readonly in: "rest" };

const headBytesMax = 64 * 1024;
const requestLine = /^([A-Za-z]{1,20}) (\S+) HTTP\/1\.[01]$/;
const statusLine = /^HTTP\/1\.[01] ([0-9]{3})( |$)/;

export class Framing {
  readonly #kind: "request" | "response";
  /** For a response: the method of the request it answers, since HEAD has no body. */
  readonly #methodOf: () => string;
  #state: State = { in: "head" };
  #pending: Buffer = Buffer.alloc(0);

  constructor(kind: "request" | "response", methodOf: () => string = () => "") {
    this.#kind = kind;
    this.#methodOf = methodOf;
  }

  /** Bytes came that are no message: the rest of the connection belongs to whoever gets them. */
  isLost = false;

  /** Cuts the next bytes at the ends of messages. What is not a whole head yet is kept for the next call. */
  feed(chunk: Buffer): Piece[] {
    const pieces: Piece[] = [];
    let bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#pending = Buffer.alloc(0);
    while (bytes.length > 0) {
      if (this.#state.in === "head") {
        const piece = this.#readHead(bytes);
        if (!piece) {
          this.#pending = bytes;
          break;
        }
        pieces.push(piece);
        bytes = bytes.subarray(piece.bytes.length);
        continue;
      }
      const { taken, ends } = this.#readBody(bytes);
      pieces.push({ bytes: bytes.subarray(0, taken), ends });
      bytes = bytes.subarray(taken);
    }
    return pieces;
  }

  /** Bytes of a head that is not complete: the connection ended, and whoever is behind should see them. */
  rest(): Buffer {
    return this.#pending;
  }

  #readHead(bytes: Buffer): Piece | undefined {
    const lineEnd = bytes.indexOf("\r\n");
    const first = bytes.subarray(0, lineEnd === -1 ? Math.min(bytes.length, headBytesMax) : lineEnd).toString("latin1");
    const match = (this.#kind === "request" ? requestLine : statusLine).exec(first);
    const headEnd = bytes.indexOf("\r\n\r\n");
    const isHopeless = (lineEnd !== -1 && !match) || (headEnd === -1 && bytes.length > headBytesMax);
    const isNoLine = lineEnd === -1 && /[^\x20-\x7e]/.test(first.replace(/\r$/, ""));
    if (isHopeless || isNoLine) return this.#lose(bytes);
    if (headEnd === -1 || !match) return undefined;
    const text = bytes.subarray(0, headEnd).toString("latin1");
    const method = this.#kind === "request" ? (match[1] ?? "") : "";
    const status = this.#kind === "response" ? Number(match[1]) : 0;
    const next = this.#bodyOf(text, status);
    if (!next) return this.#lose(bytes);
    const head = { method, status, closes: /\r\nconnection:[^\r]*close/i.test(text) || /HTTP\/1\.0/.test(first) };
    const ends = next.in === "length" && next.left === 0;
    this.#state = ends ? { in: "head" } : next;
    return { bytes: bytes.subarray(0, headEnd + 4), head, ends };
  }

  #lose(bytes: Buffer): Piece {
    this.isLost = true;
    this.#state = { in: "rest" };
    return { bytes, head: { method: "", status: 0, closes: true }, ends: false };
  }

  /** What follows this head, undefined when it is ambiguous. */
  #bodyOf(text: string, status: number): State | undefined {
    const values = (name: string) =>
      [...text.matchAll(new RegExp(`\\r\\n${name}[ \\t]*:[ \\t]*([^\\r]*)`, "gi"))].map((found) =>
        (found[1] ?? "").trim(),
      );
    const lengths = values("content-length");
    const codings = values("transfer-encoding");
    if (this.#kind === "response") {
      const isBare = status < 200 || status === 204 || status === 304 || this.#methodOf() === "HEAD";
      if (isBare) return { in: "length", left: 0 };
    }
    if (codings.length > 0) {
      const isPlain = codings.length === 1 && codings[0]?.toLowerCase() === "chunked" && lengths.length === 0;
      return isPlain ? { in: "chunk-line", line: "" } : undefined;
    }
    if (lengths.length === 0) return this.#kind === "request" ? { in: "length", left: 0 } : { in: "rest" };
    const isPlain = lengths.length === 1 && /^[0-9]{1,15}$/.test(lengths[0] ?? "");
    return isPlain ? { in: "length", left: Number(lengths[0]) } : undefined;
  }

  #readBody(bytes: Buffer): { taken: number; ends: boolean } {
    const state = this.#state;
    switch (state.in) {
      case "length":
      case "chunk": {
        const taken = Math.min(state.left, bytes.length);
        state.left -= taken;
        if (state.left > 0) return { taken, ends: false };
        this.#state = state.in === "length" ? { in: "head" } : { in: "chunk-line", line: "" };
        return { taken, ends: state.in === "length" };
      }
      case "chunk-line":
      case "trailer":
        return this.#readLine(state, bytes);
      default:
        return { taken: bytes.length, ends: false };
    }
  }

  #readLine(state: Extract<State, { line: string }>, bytes: Buffer): { taken: number; ends: boolean } {
    const lineEnd = bytes.indexOf("\n");
    const taken = lineEnd === -1 ? bytes.length : lineEnd + 1;
    state.line += bytes.subarray(0, taken).toString("latin1");
    if (lineEnd === -1) return { taken, ends: false };
    const line = state.line.trim();
    if (state.in === "trailer") {
      this.#state = line === "" ? { in: "head" } : { in: "trailer", line: "" };
      return { taken, ends: line === "" };
    }
    const size = /^([0-9a-f]{1,12})[ \t]*(;.*)?$/i.exec(line)?.[1];
    if (size === undefined) {
      this.isLost = true;
      this.#state = { in: "rest" };
    } else {
      const left = Number.parseInt(size, 16);
      // With the line end that follows the data.
      this.#state = left === 0 ? { in: "trailer", line: "" } : { in: "chunk", left: left + 2 };
    }
    return { taken, ends: false };
  }
}
