/**
 * Reads the XML that S3 servers answer with: elements and their text. What S3 never sends (mixed content, attributes that
 * mean something, document types, namespaces as such) is passed over. Goes once over the text, whatever is in it.
 */

export interface XmlElement {
  /** Without a namespace's prefix. */
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** Text of the element itself; empty when it has children. */
  readonly text: string;
}

interface OpenElement {
  readonly name: string;
  readonly children: XmlElement[];
  text: string;
}

/** What is passed over or taken as it stands: where it begins, where it ends, and whether it is text. */
const sections = [
  { begin: "<!--", end: "-->", isText: false },
  { begin: "<![CDATA[", end: "]]>", isText: true },
  { begin: "<?", end: "?>", isText: false },
  { begin: "<!", end: ">", isText: false },
] as const;
const tagPattern = /^(\/?)([^\s/]+)/;
const entities: ReadonlyMap<string, string> = new Map([
  ["amp", "&"],
  ["lt", "<"],
  ["gt", ">"],
  ["quot", '"'],
  ["apos", "'"],
]);
/** No answer of S3 is deeper than five. */
const depthMax = 32;

/** The document's element; undefined when the text is no whole document. */
export function parseXml(text: string): XmlElement | undefined {
  const document: OpenElement = { name: "", children: [], text: "" };
  const open = [document];
  for (let at = 0; at < text.length; ) {
    const top = open[open.length - 1];
    if (!top) return undefined;
    const tagAt = text.indexOf("<", at);
    const plainEnd = tagAt < 0 ? text.length : tagAt;
    if (plainEnd > at) top.text += decodeEntities(text.slice(at, plainEnd));
    if (tagAt < 0) break;
    const section = sections.find(({ begin }) => text.startsWith(begin, tagAt));
    const end = text.indexOf(section?.end ?? ">", tagAt + (section?.begin.length ?? 1));
    if (end < 0) return undefined;
    at = end + (section?.end.length ?? 1);
    if (section) {
      if (section.isText) top.text += text.slice(tagAt + section.begin.length, end);
      continue;
    }
    if (!readTag(text.slice(tagAt + 1, end), open)) return undefined;
  }
  return open.length === 1 && document.children.length === 1 ? document.children[0] : undefined;
}

export function childrenOf(element: XmlElement | undefined, name: string): XmlElement[] {
  return element?.children.filter((child) => child.name === name) ?? [];
}

/** Text of the first child of that name; undefined when there is none. */
export function textOf(element: XmlElement | undefined, name: string): string | undefined {
  return element?.children.find((child) => child.name === name)?.text;
}

/** Text as it may stand between tags. */
export function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Takes one tag, without its brackets, to the open elements. Gives whether it fits there. */
function readTag(tag: string, open: OpenElement[]): boolean {
  const [, slash, rawName] = tagPattern.exec(tag) ?? [];
  if (rawName === undefined) return false;
  const name = localName(rawName);
  if (slash === "/") {
    const closed = open.pop();
    if (!closed || closed.name !== name || open.length === 0) return false;
    const text = closed.children.length > 0 ? "" : closed.text;
    open[open.length - 1]?.children.push({ name, children: closed.children, text });
    return true;
  }
  const element: OpenElement = { name, children: [], text: "" };
  if (tag.endsWith("/")) open[open.length - 1]?.children.push(element);
  else open.push(element);
  return open.length <= depthMax;
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

function decodeEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w{1,8}));/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return entities.get(name) ?? whole;
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
