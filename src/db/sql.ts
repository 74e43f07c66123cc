/**
 * The tagged template behind `db.sql`: fragments compose, values bind, awaiting runs. Rendering to an engine's text happens
 * here and is kept per template; connections, transactions and row decoding are elsewhere.
 */

import type { Sql, SqlQuery, SqlValue } from "./db.ts";

/** A query as an engine takes it. `writes` is true when it may change the database. */
export interface Statement {
  /** From the leading comment, `unnamed` without one. */
  readonly name: string;
  readonly text: string;
  readonly params: SqlValue[];
  readonly writes: boolean;
}

/** Runs a query that was awaited. The rows' shape is the caller's claim, made where the query is written. */
export type RunQuery = (query: SqlQuery<unknown>) => Promise<unknown[]>;

/** How deep fragments may nest: more than any query needs, less than the stack holds. */
const fragmentDepthMax = 32;

class TemplateQuery<Row> implements SqlQuery<Row> {
  readonly strings: readonly string[];
  readonly values: readonly unknown[];
  readonly #run: RunQuery | undefined;
  #result: Promise<Row[]> | undefined;

  constructor(strings: readonly string[], values: readonly unknown[], run: RunQuery | undefined) {
    this.strings = strings;
    this.values = values;
    this.#run = run;
  }

  // biome-ignore lint/suspicious/noThenProperty: a query is awaited like in postgres.js, and lazily, which a Promise is not.
  then<Done = Row[], Failed = never>(
    onDone?: ((rows: Row[]) => Done | PromiseLike<Done>) | null,
    onFailed?: ((reason: unknown) => Failed | PromiseLike<Failed>) | null,
  ): Promise<Done | Failed> {
    if (this.#result === undefined) {
      if (this.#run === undefined)
        throw new TypeError("This is a fragment of SQL: put it into a query instead of awaiting it.");
      this.#result = this.#run(this) as Promise<Row[]>;
    }
    return this.#result.then(onDone, onFailed);
  }
}

/** The `sql` tag of one connection or transaction. */
export function makeSql(run: RunQuery): Sql {
  return <Row>(strings: TemplateStringsArray, ...values: (SqlValue | SqlQuery<unknown>)[]): SqlQuery<Row> =>
    new TemplateQuery<Row>(strings, values, run);
}

/** A piece of SQL that cannot run on its own. `strings` is one longer than `values`, as in a template. */
export function fragment(
  strings: readonly string[],
  values: readonly (SqlValue | SqlQuery<unknown>)[] = [],
): SqlQuery<never> {
  return new TemplateQuery<never>(strings, values, undefined);
}

interface Template {
  readonly name: string;
  /** The text when no value is a fragment, and whether it writes; made on first use. */
  flat: { text: string; writes: boolean } | undefined;
}

/**
 * Gives the function that renders queries for one engine; `placeholder` spells the parameter with that number, from 1.
 * The text of a query without fragments is made once per template, found by identity of its `strings`.
 */
export function makeRenderer(placeholder: (position: number) => string): (query: SqlQuery<unknown>) => Statement {
  const templates = new WeakMap<readonly string[], Template>();

  const append = (query: SqlQuery<unknown>, params: SqlValue[], name: string, depth: number): string => {
    if (depth > fragmentDepthMax)
      throw new TypeError(`The query "${name}" nests fragments deeper than ${fragmentDepthMax}.`);
    const { strings, values } = query;
    let text = strings[0] ?? "";
    for (let index = 0; index < values.length; index++) {
      const value = values[index];
      text +=
        value instanceof TemplateQuery
          ? append(value, params, name, depth + 1)
          : placeholder(params.push(bindable(value, params.length + 1, name)));
      text += strings[index + 1] ?? "";
    }
    return text;
  };

  return (query) => {
    const { strings, values } = query;
    let template = templates.get(strings);
    if (template === undefined) {
      template = { name: queryName(strings[0] ?? ""), flat: undefined };
      templates.set(strings, template);
    }
    const name = template.name;
    const params: SqlValue[] = [];
    if (template.flat !== undefined) {
      let index = 0;
      for (; index < values.length; index++) {
        const value = values[index];
        if (value instanceof TemplateQuery) break;
        params.push(bindable(value, index + 1, name));
      }
      if (index === values.length) return { name, text: template.flat.text, params, writes: template.flat.writes };
      params.length = 0;
    }
    const text = append(query, params, name, 0);
    const rendered = { text, writes: mayWrite(text) };
    if (!values.some((value) => value instanceof TemplateQuery)) template.flat = rendered;
    return { name, text, params, writes: rendered.writes };
  };
}

function queryName(text: string): string {
  return /^\s*\/\*\s*([\w.-]+)\s*\*\//.exec(text)?.[1] ?? "unnamed";
}

/**
 * Whether a statement may change the database, by its words. It errs on the side of yes: a read taken for a write only
 * waits in the writers' queue, and a write taken for a read is refused by the read-only connection.
 */
export function mayWrite(text: string): boolean {
  const bare = text.replace(/\/\*[\s\S]*?\*\/|--[^\n]*|'(?:[^']|'')*'/g, " ");
  const first = /[a-z]+/i.exec(bare)?.[0].toLowerCase();
  if (first === "select" || first === "values" || first === "explain") return false;
  return first !== "with" || /\b(?:insert|update|delete|replace)\b/i.test(bare);
}

function bindable(value: unknown, position: number, name: string): SqlValue {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Number.isSafeInteger(value) || (Number.isFinite(value) && !Number.isInteger(value))) return value;
      break;
    case "object":
      if (value === null || value instanceof Uint8Array) return value;
  }
  const given = typeof value === "number" ? String(value) : value === undefined ? "undefined" : `a ${typeof value}`;
  throw new TypeError(
    `Parameter ${position} of the query "${name}" is ${given}; it must be a string, a safe number, a boolean, null or a Uint8Array.`,
  );
}
