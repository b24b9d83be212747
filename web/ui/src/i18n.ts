// Every text of the page, in English and Chinese. A key is the English text's place, not the text.
import { language } from "./settings";
import { en } from "./texts/en";
import { zh } from "./texts/zh";

export type Text = keyof typeof en;

/** A text in the language of the page; `{name}` stands for a value. */
export function t(text: Text, values: Record<string, string | number> = {}): string {
  const found = (language.value === "zh" ? zh : en)[text];
  return found.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** A word of the API, such as a status, in the language of the page; itself, if there is none. */
export function word(name: string): string {
  return name in en && name.length ? t(name as Text) : name.replaceAll("_", " ");
}
