import { describe, expect, test } from "bun:test";
import { childrenOf, escapeXml, parseXml, textOf } from "./xml.ts";

const list = `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <IsTruncated>false</IsTruncated>
  <Prefix/>
  <Contents><Key>a&amp;b/&lt;c&gt; &#x41;&#66; &quot;d&apos;</Key><Size>3</Size></Contents>
  <Contents><Key>second</Key></Contents>
</ListBucketResult>`;

test("elements, their text and their order are read", () => {
  const document = parseXml(list);
  expect(document?.name).toBe("ListBucketResult");
  expect(textOf(document, "IsTruncated")).toBe("false");
  expect(textOf(document, "Prefix")).toBe("");
  expect(textOf(document, "Contents")).toBe("");
  expect(textOf(document, "NextContinuationToken")).toBeUndefined();
  expect(childrenOf(document, "Contents").map((object) => textOf(object, "Key"))).toEqual([`a&b/<c> AB "d'`, "second"]);
  expect(childrenOf(undefined, "Contents")).toEqual([]);
});

const same: [string, string][] = [
  ["blanks before it, as AWS sends while it works", "\n   \n<R><K>v</K></R>"],
  ["a namespace's prefix", `<s3:R xmlns:s3="urn:x"><s3:K>v</s3:K></s3:R>`],
  ["comments with brackets in them", "<R><!-- <K>no</K> --><K>v<!-- > --></K></R>"],
  ["CDATA", "<R><K><![CDATA[v]]></K></R>"],
  ["a document type", "<!DOCTYPE R><R><K>v</K></R>"],
  ["attributes, also in tags that close themselves", `<R a="1"><Empty b='2' /><K c="x">v</K></R>`],
];
test.each(same)("is read the same with %s", (_name, text) => {
  const document = parseXml(text);
  expect(document?.name).toBe("R");
  expect(textOf(document, "K")).toBe("v");
});

test("CDATA is taken as it stands, and unknown entities stay", () => {
  expect(parseXml("<R><![CDATA[<a>&amp;]]></R>")?.text).toBe("<a>&amp;");
  expect(parseXml("<R>&nbsp; &#x110000; &; &#zz; &toString;</R>")?.text).toBe("&nbsp; &#x110000; &; &#zz; &toString;");
});

const broken: [string, string][] = [
  ["nothing", ""],
  ["text alone", "Service Unavailable"],
  ["half a document", "<R><K>v</K>"],
  ["half a tag", "<R><K>v</K></R"],
  ["half a comment", "<R><!-- "],
  ["half a CDATA section", "<R><![CDATA[x"],
  ["tags that cross", "<R><A></R></A>"],
  ["a tag that closes nothing", "</R>"],
  ["a tag without a name", "<R>< ></R>"],
  ["two documents", "<R></R><R></R>"],
  ["a page of HTML that closes nothing", "<html><body><br><p>Bad gateway</body></html>"],
];
test.each(broken)("%s is no document", (_name, text) => {
  expect(parseXml(text)).toBeUndefined();
});

describe("hostile text", () => {
  test("deeper than any answer of S3 is refused", () => {
    expect(parseXml("<a>".repeat(31) + "</a>".repeat(31))).toBeDefined();
    expect(parseXml("<a>".repeat(40) + "</a>".repeat(40))).toBeUndefined();
    expect(parseXml("<a>".repeat(1_000_000))).toBeUndefined();
  });

  // Each would take hours with an expression that goes back over what it has seen.
  const size = 4 * 1024 * 1024;
  const shapes: [string, string][] = [
    ["comments that never end", "<!--".repeat(size / 4)],
    ["tags that never end", "<a ".repeat(size / 3)],
    ["sections that never end", `<R>${"<![CDATA[".repeat(size / 9)}`],
    ["one long tag", `<${"a".repeat(size)}`],
    ["one long tag of blanks", `<R ${" ".repeat(size)}`],
    ["brackets", "<".repeat(size)],
    ["ampersands", `<R>${"&".repeat(size)}</R>`],
    ["entities of the document's own", `<!DOCTYPE R [<!ENTITY a "aaaa">]><R>${"&a;".repeat(size / 3)}</R>`],
  ];
  test.each(shapes)("of %s costs no more than its length", (_name, text) => {
    const document = parseXml(text);
    expect(document?.text.length ?? 0).toBeLessThanOrEqual(text.length);
  });

  test("names of object properties are names", () => {
    const document = parseXml("<R><__proto__>x</__proto__><constructor>y</constructor></R>");
    expect(textOf(document, "__proto__")).toBe("x");
    expect(textOf(document, "constructor")).toBe("y");
    expect(textOf(document, "toString")).toBeUndefined();
  });
});

test("what is escaped is read back", () => {
  const text = `"a" <b> & 'c' ]]> &amp;`;
  expect(parseXml(`<R>${escapeXml(text)}</R>`)?.text).toBe(text);
});
