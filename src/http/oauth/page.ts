/**
 * The few pages that Berth writes itself: a shell without script, framework or foreign parts, closed to frames. Everything
 * that goes into it is escaped here, by the `html` tag; nothing else makes HTML.
 */

import { escapeHtml } from "../../lib/html.ts";

/** Text that is HTML already. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | Html | readonly Html[];

/** Tagged template: values are escaped unless they are Html themselves. */
export function html(strings: TemplateStringsArray, ...values: Part[]): Html {
  const text = strings.reduce((before, string, index) => {
    const value = index < values.length ? values[index] : "";
    return before + string + render(value ?? "");
  }, "");
  return new Html(text);
}

function render(value: Part): string {
  if (value instanceof Html) return value.text;
  if (typeof value === "string") return escapeHtml(value);
  return value.map((part) => part.text).join("");
}

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: #f4f5f7; color: #1c2733; }
main { max-width: 34rem; margin: 8vh auto; padding: 2rem; background: #fff; border-radius: 8px; }
h1 { font-size: 1.3rem; margin-top: 0; }
ul { padding-left: 1.2rem; }
.danger { color: #a30000; }
.actions { display: flex; gap: 1rem; margin-top: 1.5rem; }
button { font: inherit; padding: .5rem 1.2rem; border-radius: 6px; border: 1px solid #5b6b7b; background: #fff; }
input { font: inherit; box-sizing: border-box; width: 100%; padding: .5rem; border-radius: 6px; border: 1px solid #5b6b7b; }
button.go { background: #0b5cad; border-color: #0b5cad; color: #fff; }
code { overflow-wrap: anywhere; background: #eef1f4; padding: .2rem .4rem; border-radius: 4px; }
@media (prefers-color-scheme: dark) {
  body { background: #12181f; color: #e6ebf0; } main, button { background: #1c2530; color: inherit; }
  code { background: #2a3542; } .danger { color: #ff8d8d; }
}
`;

export interface Page {
  readonly title: string;
  readonly content: Html;
  readonly status?: number;
  /** The whole text of the one script that may run. */
  readonly script?: string;
  /** Where a form of the page may lead beside ourselves: an origin, or a scheme with its colon. */
  readonly formTarget?: string;
}

/** The page as an answer, with headers that keep it out of frames, caches and referrers. */
export function renderPage(page: Page): Response {
  const script = page.script === undefined ? html`` : new Html(`<script>${page.script}</script>`);
  const document = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${page.title}</title>
${new Html(`<style>${STYLE}</style>`)}
</head>
<body>
<main>
<h1>${page.title}</h1>
${page.content}
</main>
${script}
</body>
</html>
`;
  const policy = [
    "default-src 'none'",
    `style-src '${hashOf(STYLE)}'`,
    ...(page.script === undefined ? [] : [`script-src '${hashOf(page.script)}'`]),
    `form-action 'self'${page.formTarget === undefined ? "" : ` ${page.formTarget}`}`,
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ];
  return new Response(document.text, {
    status: page.status ?? 200,
    headers: {
      ...NOT_KEPT,
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": policy.join("; "),
      "X-Frame-Options": "DENY",
      "X-Content-Type-Options": "nosniff",
    },
  });
}

/** A redirect that says nothing of where it came from: its address may hold a token. */
export function redirectTo(location: string): Response {
  return new Response(null, { status: 303, headers: { ...NOT_KEPT, Location: location } });
}

const NOT_KEPT = { "Cache-Control": "no-store", "Referrer-Policy": "no-referrer" } as const;

function hashOf(text: string): string {
  return `sha256-${new Bun.CryptoHasher("sha256").update(text).digest("base64")}`;
}
