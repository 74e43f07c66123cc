/** A browser without scripts: keeps its cookies, opens links, and sends forms as they stand in a page. */

export interface OpenPage {
  readonly status: number;
  readonly headers: Headers;
  readonly html: string;
  /** What a reader sees. */
  readonly text: string;
}

export class Browser {
  readonly #url: string;
  cookie = "";

  constructor(url: string) {
    this.#url = url;
  }

  open(path: string): Promise<OpenPage> {
    return this.#fetch(path, { method: "GET" });
  }

  /** Sends the form of a page with these fields beside its hidden ones. Throws when the page has no such form. */
  submit(page: OpenPage, action: string, fields: Record<string, string> = {}): Promise<OpenPage> {
    for (const [, attributes = "", inside = ""] of page.html.matchAll(/<form ([^>]*)>([\s\S]*?)<\/form>/g)) {
      if (!attributes.includes(`action="${action}"`)) continue;
      const hidden = [...inside.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)"/g)];
      const sent = Object.fromEntries(hidden.map(([, name = "", value = ""]) => [name, plainText(value)]));
      const wanted = fields.answer;
      if (wanted !== undefined && sent.answer !== wanted) continue;
      return this.post(action, { ...sent, ...fields });
    }
    throw new Error(`the page has no form for "${action}":\n${page.text}`);
  }

  post(path: string, fields: Record<string, string>): Promise<OpenPage> {
    return this.#fetch(path, { method: "POST", body: new URLSearchParams(fields) });
  }

  async #fetch(path: string, init: RequestInit): Promise<OpenPage> {
    const response = await fetch(this.#url + path, { ...init, redirect: "manual", headers: { Cookie: this.cookie } });
    this.cookie = response.headers.get("set-cookie")?.split(";")[0] ?? this.cookie;
    const html = await response.text();
    const text = plainText(html.replace(/<style>[\s\S]*?<\/style>/g, "").replace(/<[^>]*>/g, " ")).replace(/\s+/g, " ");
    return { status: response.status, headers: response.headers, html, text };
  }
}

function plainText(html: string): string {
  return html
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&amp;", "&");
}
