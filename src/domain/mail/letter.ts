/**
 * How a mail looks: a greeting, paragraphs and perhaps one link, as plain text and as simple HTML from the same words.
 * Whatever a user chose passes here, so that it is escaped in one place.
 */

import type { Mail } from "../../clients/smtp.ts";
import type { Config } from "../../config/schema.ts";
import { escapeHtml } from "../../lib/html.ts";

export interface Letter {
  readonly to: string;
  readonly subject: string;
  /** Whom to greet; undefined when only the address is known. */
  readonly name?: string | undefined;
  readonly paragraphs: readonly string[];
  readonly link?: { readonly label: string; readonly url: string } | undefined;
  /** Shown after the link. */
  readonly closing?: readonly string[];
}

/** Longer user texts are cut: they are names and titles, and a mail is not their place. */
const TEXT_CHARS_MAX = 2000;

/** A letter as a mail, signed with REGISTRY_TITLE. */
export function writeLetter(config: Pick<Config, "REGISTRY_TITLE">, letter: Letter): Mail {
  const greeting = letter.name === undefined ? "Hello," : `Hello ${oneLine(letter.name)},`;
  const before = [greeting, ...letter.paragraphs.map(oneLine)];
  const after = [...(letter.closing ?? []).map(oneLine), oneLine(config.REGISTRY_TITLE)];
  const { link } = letter;
  const text = [...before, ...(link ? [`${oneLine(link.label)}:\n${link.url}`] : []), ...after].join("\n\n");
  const html = [
    ...before.map(paragraph),
    ...(link ? [`<p><a href="${escapeHtml(link.url)}">${escapeHtml(oneLine(link.label))}</a></p>`] : []),
    ...(link ? [paragraph(`If the link does not open, copy this address: ${link.url}`)] : []),
    ...after.map(paragraph),
  ].join("\n");
  return {
    to: letter.to,
    subject: oneLine(letter.subject),
    text: `${text}\n`,
    html: `<!doctype html>\n<html lang="en"><body style="font-family: sans-serif; line-height: 1.5">\n${html}\n</body></html>\n`,
  };
}

function paragraph(text: string): string {
  return `<p>${escapeHtml(text)}</p>`;
}

/** Without line breaks nobody can write paragraphs of their own into our letter. */
function oneLine(text: string): string {
  return text
    .replace(/[\s\p{Cc}]+/gu, " ")
    .trim()
    .slice(0, TEXT_CHARS_MAX);
}
