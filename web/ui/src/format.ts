// Figures for people, in the language of the page.
import { language } from "./settings";

const formats = new Map<string, Intl.NumberFormat>();

export function number(value: number, digits = 0): string {
  const name = `${language.value} ${digits}`;
  const found = formats.get(name) ?? new Intl.NumberFormat(language.value, { maximumFractionDigits: digits });
  formats.set(name, found);
  return found.format(value);
}

/** A number with few letters, as at an axis: 1.5M. */
export function short(value: number): string {
  const format = new Intl.NumberFormat(language.value, { notation: "compact", maximumSignificantDigits: 3 });
  return format.format(value);
}

/** A rate: with one digit where it is small. */
export function rate(value: number): string {
  return number(value, value < 100 ? 1 : 0);
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 999.5 && at < units.length - 1; at += 1) value /= 1000;
  return `${number(value, value < 10 && at ? 1 : 0)} ${units[at]}`;
}

/** A time from milliseconds to days, with two units at most. */
export function duration(seconds: number): string {
  if (seconds < 1) return `${number(seconds * 1000)} ms`;
  if (seconds < 60) return `${number(seconds, 1)} s`;
  const units: [string, number][] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  const [name, length] = units[first];
  const next = units[first + 1];
  const whole = `${Math.floor(seconds / length)} ${name}`;
  const rest = next ? Math.floor((seconds % length) / next[1]) : 0;
  return rest ? `${whole} ${rest} ${next[0]}` : whole;
}

/** A time of day, with its date unless that is today's. */
export function moment(iso: string): string {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const day = today ? {} : ({ year: "numeric", month: "2-digit", day: "2-digit" } as const);
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;
  return at.toLocaleString(language.value, { ...day, ...clock });
}

/** A time as `datetime-local` wants it: of this place, without its zone; empty, if it is none. */
export function local(iso: string | null | undefined): string {
  const at = Date.parse(iso ?? "");
  if (Number.isNaN(at)) return "";
  return new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** How long ago an ISO time was. */
export function ago(iso: string): string {
  return duration(Math.max(0, Math.round((Date.now() - Date.parse(iso)) / 1000)));
}

export function percent(share: number): string {
  return `${number(100 * share)} %`;
}
