/**
 * The building blocks of the schema: one function per type that Quay's reference names, each with the words an operator
 * reads when the value is wrong. A message is the tail of a sentence that begins with the key ("must be …"). Schemas that
 * look alike are one object: making a zod schema is dear, there are four hundred keys, and a start is counted in ms.
 */
import { z } from "zod";
import { DURATION_PATTERN, durationMs, SIZE_PATTERN, sizeBytes } from "./units.ts";

/**
 * Quay reads YAML 1.1, where plain yes/no/on/off are booleans; our parser reads YAML 1.2, where they are text. Quoted
 * "yes" cannot be told apart from plain yes any more and is taken as well.
 */
const YAML_1_1_BOOLEANS = new Map<unknown, boolean>(
  ["yes", "Yes", "YES", "on", "On", "ON"]
    .map((word): [string, boolean] => [word, true])
    .concat(["no", "No", "NO", "off", "Off", "OFF"].map((word): [string, boolean] => [word, false])),
);

const boolean = z.preprocess(
  (value) => YAML_1_1_BOOLEANS.get(value) ?? value,
  z.boolean({ error: "must be true or false" }),
);
const onByDefault = boolean.default(true);
const offByDefault = boolean.default(false);
const maybeBoolean = boolean.optional();

export const bool = (initial: boolean) => (initial ? onByDefault : offByDefault);
export const optionalBool = () => maybeBoolean;

const anyText = z.string({ error: "must be text; put the value in quotes" });
const maybeText = anyText.optional();
const noText = anyText.nullable().default(null);
const secret = anyText.min(1, { error: "must not be empty" }).optional();

/** Text that must be given when its block is given. */
export const requiredText = () => anyText;
export const text = (initial: string) => anyText.default(initial);
export const optionalText = () => maybeText;
export const nullableText = (initial: string | null = null) =>
  initial === null ? noText : anyText.nullable().default(initial);
/** Keys and passwords: text that may not be empty, for an empty secret is a mistake and never a wish. */
export const optionalSecret = () => secret;

/** Whole numbers; `unit` is the word after "a whole number of". */
const makeWhole = (unit: string, min: number, max: number) => {
  const error = `must be a whole number of ${unit} from ${min}${max < UNBOUNDED ? ` to ${max}` : " up"}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
};
const UNBOUNDED = Number.MAX_SAFE_INTEGER;
const made = new Map<string, ReturnType<typeof makeWhole>>();
const whole = (unit: string, min: number, max = UNBOUNDED) => {
  const name = `${unit} ${min} ${max}`;
  const known = made.get(name) ?? makeWhole(unit, min, max);
  made.set(name, known);
  return known;
};

export const count = (initial: number, min = 0) => whole("items", min).default(initial);
export const seconds = (initial: number, min = 0) => whole("seconds", min).default(initial);
/** What a timer waits for: one that is asked for more than 24 days fires each millisecond. */
const TIMER_SECONDS_MAX = 14 * 24 * 3600;
export const timerSeconds = (initial: number, min = 1) => whole("seconds", min, TIMER_SECONDS_MAX).default(initial);
export const minutes = (initial: number, min = 0) => whole("minutes", min).default(initial);
export const bytes = (initial: number) => whole("bytes", 0).default(initial);
const maybeCount = whole("items", 0).optional();
const maybeSeconds = whole("seconds", 0).optional();
export const optionalCount = () => maybeCount;
export const optionalSeconds = () => maybeSeconds;
export const nullableCount = (initial: number | null = null) => whole("items", 0).nullable().default(initial);
const portError = "must be a port from 1 to 65535";
const anyPort = z.int({ error: portError }).min(1, { error: portError }).max(65_535, { error: portError });
const maybePort = anyPort.optional();
export const optionalPort = () => maybePort;
export const port = (initial: number) => anyPort.default(initial);

export const number = (initial: number, min = 0, max = UNBOUNDED) => {
  const error = max < UNBOUNDED ? `must be a number from ${min} to ${max}` : `must be a number from ${min} up`;
  return z.number({ error }).min(min, { error }).max(max, { error }).default(initial);
};

export const oneOf = <const Values extends readonly [string, ...string[]]>(values: Values) =>
  z.enum(values, { error: `must be one of ${values.join(", ")}` });

const durationError = "must have the regex pattern ^[0-9]+(w|m|d|h|s)$, such as 2w or 30m";
/** The pattern is Quay's; a number that no clock can hold is refused too. */
const anyDuration = z
  .string({ error: durationError })
  .refine((value) => DURATION_PATTERN.test(value) && isReadable(durationMs, value), { error: durationError });
export const durationText = () => anyDuration;
export const duration = (initial: string) => anyDuration.default(initial);
export const nullableDuration = (initial: string | null) => anyDuration.nullable().default(initial);

const sizeError = "must be a size such as 20G or 500M";
const anySize = z
  .string({ error: sizeError })
  .refine((value) => SIZE_PATTERN.test(value) && isReadable(sizeBytes, value), { error: sizeError });
export const sizeText = () => anySize;

const listError = "must be a list";
export const listOf = <Item extends z.ZodType>(item: Item) => z.array(item, { error: listError });
const anyTexts = listOf(anyText);
const noTexts = anyTexts.default([]);
const maybeTexts = anyTexts.optional();
const nullTexts = anyTexts.nullable().default(null);
export const texts = () => noTexts;
export const optionalTexts = () => maybeTexts;
export const nullableTexts = () => nullTexts;

/**
 * A block of sub-keys. Sub-keys that are not named here are kept, as Quay keeps them, and reported as a warning, so that
 * a misspelt one does not go unnoticed.
 */
export const block = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.looseObject(shape, { error: "must be a block of keys and values" });

const anyBlock = z.record(z.string(), z.unknown(), { error: "must be a block of keys and values" });
/** A block whose sub-keys are names chosen by the operator or by another product. */
export const openBlock = () => anyBlock;

/** Host, IPv4 or bracketed IPv6 address, with an optional port: what clients write before the repository's name. */
const HOSTNAME_PATTERN = /^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$/;
export const hostname = () =>
  z.string({ error: "must be of type Hostname" }).refine(isHostname, {
    error: "must be of type Hostname: a host with an optional port and no scheme, such as registry.example.com:8443",
  });

export const url = (schemes: readonly string[] = ["http", "https"]) => {
  const error = `must be of type URL: ${schemes.map((scheme) => `${scheme}://…`).join(" or ")}`;
  return z
    .string({ error })
    .refine((value) => URL.canParse(value) && schemes.includes(new URL(value).protocol.slice(0, -1)), {
      error,
    });
};

function isHostname(value: string): boolean {
  if (!HOSTNAME_PATTERN.test(value)) return false;
  const portText = /:([0-9]+)$/.exec(value.replace(/^\[.*\]/, ""))?.[1];
  return portText === undefined || (Number(portText) > 0 && Number(portText) <= 65_535);
}

function isReadable(read: (value: string) => number, value: string): boolean {
  try {
    read(value);
    return true;
  } catch {
    return false;
  }
}
