/**
 * Reads the XML that S3 servers answer with: elements and their text. What S3 never sends (mixed content, attributes that
 * mean something, document types, namespaces as such) is passed over.
 */

export interface XmlElement {
  /** Without a namespace's prefix. */
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** Text of the element itself; empty when it has children. */
  readonly text: string;
}

interface OpenElement {
  name: string;
  children: XmlElement[];
  text: string;
}

/** A tag, a comment, a declaration or a CDATA section; text is what lies between. */
const tokenPattern = /<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<[!?][^>]*>|<(\/?)([^\s/>]+)[^>]*?(\/?)>|([^<]+)/g;
const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
/** No answer of S3 is deeper than five. */
const depthMax = 32;

/** The document's element; undefined when the text is no whole document. */
export function parseXml(text: string): XmlElement | undefined {
  const stack: OpenElement[] = [{ name: "", children: [], text: "" }];
  for (const [, data, slash, name, selfClosed, plain] of text.matchAll(tokenPattern)) {
    const top = stack[stack.length - 1];
    if (!top) return undefined;
    if (data !== undefined) top.text += data;
    else if (plain !== undefined) top.text += decodeEntities(plain);
    else if (name === undefined) continue;
    else if (slash === "/") {
      if (top.name !== localName(name) || stack.length < 2) return undefined;
      stack.pop();
      stack[stack.length - 1]?.children.push(closed(top));
    } else {
      const element = { name: localName(name), children: [], text: "" };
      if (selfClosed === "/") top.children.push(element);
      else stack.push(element);
      if (stack.length > depthMax) return undefined;
    }
  }
  const [document] = stack;
  return stack.length === 1 && document?.children.length === 1 ? document.children[0] : undefined;
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

function closed({ name, children, text }: OpenElement): XmlElement {
  return { name, children, text: children.length > 0 ? "" : text };
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

function decodeEntities(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w+));/g, (whole, decimal, hex, name) => {
    if (name !== undefined) return entities[name] ?? whole;
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
