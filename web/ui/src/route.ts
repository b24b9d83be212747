// Which page is shown: the part of the address behind `#/`, so that the server has one page below any root path.
import { signal } from "@preact/signals";

export const PAGES = ["overview", "playground"] as const;
export type Page = (typeof PAGES)[number];

const page = signal<Page>(read());
addEventListener("hashchange", () => (page.value = read()));

export function current(): Page {
  return page.value;
}

/** The address of a page; the document's base would take `#/` for the root's. */
export function address(to: Page): string {
  return `${location.pathname}${location.search}#/${to}`;
}

function read(): Page {
  return PAGES.find((one) => location.hash === `#/${one}`) ?? PAGES[0];
}
