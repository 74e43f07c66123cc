/**
 * Reads a regular expression into a tree, for `linear-regex.ts`. The syntax is the part of Python's and JavaScript's that
 * needs no memory of what was matched; everything else is refused with a sentence for whoever wrote it.
 */

/** Longest pattern: Quay's limit for tag patterns. */
export const PATTERN_LENGTH_MAX = 256;
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
export interface CharacterSet {
  readonly ranges: readonly (readonly [number, number])[];
  readonly negated: boolean;
}

export type RegexNode =
  | { readonly kind: "empty" }
  | { readonly kind: "set"; readonly set: CharacterSet }
  | { readonly kind: "begin" | "end" }
  | { readonly kind: "sequence" | "choice"; readonly parts: readonly RegexNode[] }
  | { readonly kind: "repeat"; readonly part: RegexNode; readonly min: number; readonly max: number | undefined };

/** The tree of a pattern of at most 256 characters. Throws `PatternError` with what is wrong and where. */
export function parseRegex(pattern: string): RegexNode {
  if (pattern.length > PATTERN_LENGTH_MAX) {
    throw new PatternError(`the pattern has ${pattern.length} characters, at most ${PATTERN_LENGTH_MAX} are taken`);
  }
  return new Parser(pattern).parse();
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

  parse(): RegexNode {
    const node = this.#choice();
    if (this.#position < this.#pattern.length) throw this.#fault('")" closes no group');
    return node;
  }

  #choice(): RegexNode {
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    return parts.length === 1 ? (parts[0] as RegexNode) : { kind: "choice", parts };
  }

  #sequence(): RegexNode {
    const parts: RegexNode[] = [];
    for (;;) {
      const next = this.#peek();
      if (next === "" || next === "|" || next === ")") break;
      parts.push(this.#repeated());
    }
    return parts.length === 0 ? { kind: "empty" } : { kind: "sequence", parts };
  }

  #repeated(): RegexNode {
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

  #atom(): RegexNode {
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

  #group(): RegexNode {
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
