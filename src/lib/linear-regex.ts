/**
 * Regular expressions whose cost is bounded whoever wrote them: patterns become a non-deterministic automaton that is
 * walked one character at a time, so a match takes at most text × states steps and never backtracks. Which syntax there is,
 * is the business of `regex-parser.ts`.
 */

import { type CharacterSet, PatternError, parseRegex, type RegexNode } from "./regex-parser.ts";

/** States of one automaton: with a tag of 128 characters a match is at most 64,000 steps, under a millisecond. */
const STATES_MAX = 500;

/** Steps of the automaton: take a character, go two ways, hold only at the beginning or end, or be done. */
type State =
  | { kind: "set"; set: CharacterSet; next: number }
  | { kind: "split"; next: number; other: number }
  | { kind: "begin" | "end"; next: number }
  | { kind: "done" };

export interface LinearRegex {
  /** What one character of a text costs at most. */
  readonly steps: number;
  /** True when the pattern matches from the first character on, as Python's `re.match`; the end is free unless `$` says. */
  matchesStart(text: string): boolean;
  /** True when the pattern matches anywhere in the text, as Python's `re.search`. */
  matchesAnywhere(text: string): boolean;
}

/** Compiles a pattern of at most 256 characters. Throws `PatternError` with what is wrong and where. */
export function compileLinearRegex(pattern: string): LinearRegex {
  const states: State[] = [];
  emit(states, parseRegex(pattern));
  add(states, { kind: "done" });
  const program = pack(states);
  return {
    steps: states.length,
    matchesStart: (text) => run(program, text, false),
    matchesAnywhere: (text) => run(program, text, true),
  };
}

/** Appends the states of a node; they run into the state that follows them. */
function emit(states: State[], node: RegexNode): void {
  switch (node.kind) {
    case "empty":
      return;
    case "set":
      add(states, { kind: "set", set: node.set, next: states.length + 1 });
      return;
    case "begin":
    case "end":
      add(states, { kind: node.kind, next: states.length + 1 });
      return;
    case "sequence":
      for (const part of node.parts) emit(states, part);
      return;
    case "choice":
      emitChoice(states, node.parts);
      return;
    case "repeat":
      emitRepeat(states, node);
  }
}

function emitChoice(states: State[], parts: readonly RegexNode[]): void {
  const ends: (State & { kind: "split" })[] = [];
  for (const [index, part] of parts.entries()) {
    if (index === parts.length - 1) {
      emit(states, part);
      break;
    }
    const fork = addSplit(states);
    emit(states, part);
    ends.push(addSplit(states));
    fork.other = states.length;
  }
  for (const end of ends) {
    end.next = states.length;
    end.other = states.length;
  }
}

function emitRepeat(states: State[], node: Extract<RegexNode, { kind: "repeat" }>): void {
  for (let count = 0; count < node.min; count++) emit(states, node.part);
  if (node.max === undefined) {
    const start = states.length;
    const fork = addSplit(states);
    emit(states, node.part);
    const back = addSplit(states);
    back.next = start;
    back.other = start;
    fork.other = states.length;
    return;
  }
  const forks: (State & { kind: "split" })[] = [];
  for (let count = node.min; count < node.max; count++) {
    forks.push(addSplit(states));
    emit(states, node.part);
  }
  for (const fork of forks) fork.other = states.length;
}

function add(states: State[], state: State): void {
  if (states.length >= STATES_MAX) {
    throw new PatternError(`the pattern is too complex: written out it has more than ${STATES_MAX} steps`);
  }
  states.push(state);
}

/** A fork whose first way is the next state; the second is set by the caller. */
function addSplit(states: State[]): State & { kind: "split" } {
  const split: State & { kind: "split" } = { kind: "split", next: states.length + 1, other: states.length + 1 };
  add(states, split);
  return split;
}

/** The automaton as it is walked: one entry for each state in each of these. */
interface Program {
  readonly kinds: Uint8Array;
  readonly nexts: Uint16Array;
  readonly others: Uint16Array;
  /** For states that take a character: which of ASCII's. */
  readonly tables: readonly (Uint8Array | undefined)[];
  readonly sets: readonly (CharacterSet | undefined)[];
}

const KIND: Readonly<Record<State["kind"], number>> = { set: 0, split: 1, begin: 2, end: 3, done: 4 };

function pack(states: readonly State[]): Program {
  // What is repeated is one set in many states.
  const tables = new Map<CharacterSet, Uint8Array>();
  const tableOf = (set: CharacterSet) => {
    const known = tables.get(set) ?? asciiTable(set);
    tables.set(set, known);
    return known;
  };
  return {
    kinds: Uint8Array.from(states, (state) => KIND[state.kind]),
    nexts: Uint16Array.from(states, (state) => (state.kind === "done" ? 0 : state.next)),
    others: Uint16Array.from(states, (state) => (state.kind === "split" ? state.other : 0)),
    tables: states.map((state) => (state.kind === "set" ? tableOf(state.set) : undefined)),
    sets: states.map((state) => (state.kind === "set" ? state.set : undefined)),
  };
}

function asciiTable(set: CharacterSet): Uint8Array {
  const table = new Uint8Array(128);
  for (let code = 0; code < 128; code++) if (holds(set, code)) table[code] = 1;
  return table;
}

/** Walks all ways at once: `current` is the set of states that the text so far leads to. */
function run(program: Program, text: string, anywhere: boolean): boolean {
  const { kinds, nexts, others } = program;
  const size = kinds.length;
  let current = new Uint16Array(size);
  let next = new Uint16Array(size);
  let count = 0;
  // The position at which a state was last entered, so that each is entered once per position.
  const seen = new Int32Array(size).fill(-1);
  // A split leaves two to look at, and those that were entered meanwhile are dropped only when their turn comes.
  const open = new Uint16Array(2 * size + 1);
  for (let position = 0; position <= text.length; position++) {
    if (position === 0 || anywhere) count = enter(0, position, current, count);
    if (count === DONE) return true;
    if (count === 0 && !anywhere) return false;
    if (position === text.length) return false;
    const code = text.charCodeAt(position);
    let nextCount = 0;
    for (let index = 0; index < count; index++) {
      const state = current[index] as number;
      if (!takes(program, state, code)) continue;
      nextCount = enter(nexts[state] as number, position + 1, next, nextCount);
      if (nextCount === DONE) return true;
    }
    [current, next, count] = [next, current, nextCount];
  }
  return false;

  /** Adds a state and all that follow it without a character; gives the new length, or `DONE` at the end of the pattern. */
  function enter(start: number, position: number, into: Uint16Array, length: number): number {
    let added = length;
    let depth = 0;
    open[depth++] = start;
    while (depth > 0) {
      const state = open[--depth] as number;
      if (seen[state] === position) continue;
      seen[state] = position;
      const kind = kinds[state];
      if (kind === KIND.done) return DONE;
      if (kind === KIND.set) into[added++] = state;
      else if (kind === KIND.split) {
        open[depth++] = others[state] as number;
        open[depth++] = nexts[state] as number;
      } else if (kind === KIND.begin ? position === 0 : position === text.length) {
        open[depth++] = nexts[state] as number;
      }
    }
    return added;
  }
}

const DONE = -1;

function takes({ tables, sets }: Program, state: number, code: number): boolean {
  if (code < 128) return tables[state]?.[code] === 1;
  const set = sets[state];
  return set !== undefined && holds(set, code);
}

function holds(set: CharacterSet, code: number): boolean {
  const inside = set.ranges.some(([low, high]) => code >= low && code <= high);
  return inside !== set.negated;
}
