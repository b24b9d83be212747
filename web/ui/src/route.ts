// Which page is shown: the part of the address behind `#/`, so that the server has one page below any root path. Behind
// the page's name may be an id, and a query: `#/jobs?status=failed`, `#/jobs/chatcmpl-…`.
import { computed, signal } from "@preact/signals";

export const PAGES = ["overview", "deployments", "playground", "jobs", "keys"] as const;
export type Page = (typeof PAGES)[number];

export interface Place {
  page: Page;
  /** Of the thing that the page shows; empty: it shows all. */
  id: string;
  query: Record<string, string>;
}

const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));

export const place = computed<Place>(() => {
  const [path, query] = hash.value.replace(/^#\//, "").split("?", 2);
  const [name, ...id] = path.split("/");
  const page = PAGES.find((one) => one === name) ?? PAGES[0];
  return { page, id: decoded(id.join("/")), query: Object.fromEntries(new URLSearchParams(query)) };
});

/** The address of a place; the document's base would take `#/` for the root's. Empty values are left out. */
export function address(page: Page, id = "", query: Record<string, string> = {}): string {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  const path = id ? `${page}/${encodeURIComponent(id)}` : page;
  return `${location.pathname}${location.search}#/${path}${text && `?${text}`}`;
}

/** Goes there; `history.back` comes back. */
export function go(...to: Parameters<typeof address>): void {
  location.assign(address(...to));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
