/**
 * Regular expressions whose cost is bounded whoever wrote them: patterns become a non-deterministic automaton that is
 * walked one character at a time, so a match takes at most text × states steps and never backtracks. The syntax is the part
 * of Python's and JavaScript's that needs no memory: what is missing (back references, look-around, flags) is refused.
 */

/** Longest pattern: Quay's limit for tag patterns. */
export const PATTERN_LENGTH_MAX = 256;
/** States of one automaton: with a tag of 128 characters a match is at most 64,000 steps, under a millisecond. */
const STATES_MAX = 500;
/** Deepest nesting of groups; the parser descends once per level. */
const DEPTH_MAX = 20;
/** Largest count in braces. */
const REPEAT_MAX = 100;

/** What is wrong with a pattern, as a sentence for the person who wrote it. */
export class PatternError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "PatternError";
  }
}

/** Pairs of first and last character code, both included; `negated` turns the set around. */
interface CharacterSet {
  readonly ranges: readonly (readonly [number, number])[];
  readonly negated: boolean;
}

type Node =
  | { readonly kind: "empty" }
  | { readonly kind: "set"; readonly set: CharacterSet }
  | { readonly kind: "begin" | "end" }
  | { readonly kind: "sequence" | "choice"; readonly parts: readonly Node[] }
  | { readonly kind: "repeat"; readonly part: Node; readonly min: number; readonly max: number | undefined };

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
  if (pattern.length > PATTERN_LENGTH_MAX) {
    throw new PatternError(`the pattern has ${pattern.length} characters, at most ${PATTERN_LENGTH_MAX} are taken`);
  }
  const states: State[] = [];
  emit(states, new Parser(pattern).parse());
  add(states, { kind: "done" });
  const program = pack(states);
  return {
    steps: states.length,
    matchesStart: (text) => run(program, text, false),
    matchesAnywhere: (text) => run(program, text, true),
  };
}

const DIGIT: CharacterSet = { ranges: [[0x30, 0x39]], negated: false };
const WORD: CharacterSet = {
  ranges: [
    [0x30, 0x39],
    [0x41, 0x5a],
    [0x5f, 0x5f],
    [0x61, 0x7a],
  ],
  negated: false,
};
const SPACE: CharacterSet = {
  ranges: [
    [0x09, 0x0d],
    [0x20, 0x20],
  ],
  negated: false,
};
const NEWLINE: CharacterSet = { ranges: [[0x0a, 0x0a]], negated: true };
const CLASSES: Readonly<Record<string, CharacterSet>> = {
  d: DIGIT,
  w: WORD,
  s: SPACE,
  D: { ...DIGIT, negated: true },
  W: { ...WORD, negated: true },
  S: { ...SPACE, negated: true },
};
const CONTROLS: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b };

class Parser {
  readonly #pattern: string;
  #position = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  parse(): Node {
    const node = this.#choice();
    if (this.#position < this.#pattern.length) throw this.#fault('")" closes no group');
    return node;
  }

  #choice(): Node {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? (parts[0] as Node) : { kind: "choice", parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    for (;;) {
      const next = this.#peek();
      if (next === "" || next === "|" || next === ")") break;
      parts.push(this.#repeated());
    }
    return parts.length === 0 ? { kind: "empty" } : { kind: "sequence", parts };
  }

  #repeated(): Node {
    const part = this.#atom();
    const bounds = this.#quantifier();
    if (!bounds) return part;
    if (part.kind === "begin" || part.kind === "end") throw this.#fault("an anchor cannot be repeated");
    // Lazy or greedy is a question of what is taken, not of whether there is a match.
    this.#take("?");
    if (/[*+?]/.test(this.#peek()) || this.#braces()) throw this.#fault("a repetition cannot be repeated; use a group");
    return { kind: "repeat", part, ...bounds };
  }

  #quantifier(): { min: number; max: number | undefined } | undefined {
    if (this.#take("*")) return { min: 0, max: undefined };
    if (this.#take("+")) return { min: 1, max: undefined };
    if (this.#take("?")) return { min: 0, max: 1 };
    return this.#braces();
  }

  /** `{2}`, `{2,}`, `{,3}` and `{2,3}`; braces around anything else are characters, as in Python. */
  #braces(): { min: number; max: number | undefined } | undefined {
    const match = /^\{(\d{0,4})(,?)(\d{0,4})\}/.exec(this.#pattern.slice(this.#position));
    if (!match || (match[1] === "" && match[3] === "")) return undefined;
    const min = Number(match[1] || 0);
    const max = match[2] === "" ? min : match[3] === "" ? undefined : Number(match[3]);
    if (min > REPEAT_MAX || (max ?? 0) > REPEAT_MAX) throw this.#fault(`a count in braces is at most ${REPEAT_MAX}`);
    if (max !== undefined && max < min) throw this.#fault("the counts in braces are the wrong way round");
    this.#position += match[0].length;
    return { min, max };
  }

  #atom(): Node {
    const character = this.#peek();
    if (/[*+?]/.test(character) || this.#braces()) throw this.#fault("a repetition repeats nothing");
    this.#position++;
    if (character === ".") return { kind: "set", set: NEWLINE };
    if (character === "^") return { kind: "begin" };
    if (character === "$") return { kind: "end" };
    if (character === "(") return this.#group();
    if (character === "[") return { kind: "set", set: this.#class() };
    if (character === "\\") return { kind: "set", set: this.#escape() };
    return { kind: "set", set: single(character.charCodeAt(0)) };
  }

  #group(): Node {
    if (this.#take("?") && !this.#take(":")) {
      throw this.#fault('of the groups with "(?" only "(?:" is supported: no look-around, names or flags');
    }
    if (++this.#depth > DEPTH_MAX) throw this.#fault(`groups are nested deeper than ${DEPTH_MAX}`);
    const node = this.#choice();
    this.#depth--;
    if (!this.#take(")")) throw this.#fault('")" is missing');
    return node;
  }

  #class(): CharacterSet {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    // A bracket right at the beginning is a character, as in Python.
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      if (this.#peek() === "") throw this.#fault('"]" is missing');
      const from = this.#classItem();
      const rest = this.#pattern.slice(this.#position, this.#position + 2);
      if (rest[0] !== "-" || rest.length < 2 || rest[1] === "]") {
        ranges.push(...rangesOf(from));
        continue;
      }
      this.#position++;
      const to = this.#classItem();
      const [low, high] = [singleOf(from), singleOf(to)];
      if (low === undefined || high === undefined || high < low) throw this.#fault("a range in brackets is not one");
      ranges.push([low, high]);
    }
    this.#position++;
    return { ranges, negated };
  }

  #classItem(): CharacterSet {
    const character = this.#peek();
    this.#position++;
    return character === "\\" ? this.#escape() : single(character.charCodeAt(0));
  }

  #escape(): CharacterSet {
    const character = this.#peek();
    if (character === "") throw this.#fault("a backslash at the end escapes nothing");
    this.#position++;
    const known = CLASSES[character];
    if (known) return known;
    const control = CONTROLS[character];
    if (control !== undefined) return single(control);
    if (/[A-Za-z0-9]/.test(character)) {
      throw this.#fault(`"\\${character}" is not supported; use \\d, \\w, \\s or an escaped sign`);
    }
    return single(character.charCodeAt(0));
  }

  #peek(): string {
    return this.#pattern.charAt(this.#position);
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#position++;
    return true;
  }

  #fault(problem: string): PatternError {
    return new PatternError(`${problem} (at character ${Math.min(this.#position + 1, this.#pattern.length)})`);
  }
}

function single(code: number): CharacterSet {
  return { ranges: [[code, code]], negated: false };
}

function singleOf(set: CharacterSet): number | undefined {
  const [range, ...more] = set.ranges;
  return !set.negated && more.length === 0 && range && range[0] === range[1] ? range[0] : undefined;
}

/** The set without its negation, so that it can stand among others in brackets. */
function rangesOf(set: CharacterSet): readonly (readonly [number, number])[] {
  if (!set.negated) return set.ranges;
  const gaps: (readonly [number, number])[] = [];
  let from = 0;
  for (const [low, high] of set.ranges) {
    if (low > from) gaps.push([from, low - 1]);
    from = high + 1;
  }
  return [...gaps, [from, 0xffff]];
}

/** Appends the states of a node; they run into the state that follows them. */
function emit(states: State[], node: Node): void {
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

function emitChoice(states: State[], parts: readonly Node[]): void {
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

function emitRepeat(states: State[], node: Extract<Node, { kind: "repeat" }>): void {
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
