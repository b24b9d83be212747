// Small parts that several pages show.
import { t, word } from "./i18n";
import { key, may } from "./session";

const GOOD = new Set(["healthy", "active", "ready", "completed"]);
const BAD = new Set(["missing", "gone", "unavailable", "unhealthy", "failed", "lost", "evicting"]);

const CALM = new Set(["asleep", "pending", "in_progress", "cancelled", "revoked"]);

export type Tone = "good" | "bad" | "warn" | "calm";

export function tone(status: string): Tone {
  if (GOOD.has(status)) return "good";
  if (BAD.has(status)) return "bad";
  return CALM.has(status) ? "calm" : "warn";
}

/** A status with its mark: never told by colour alone. */
export function Status({ name }: { name: string }) {
  return (
    <span class={`status ${tone(name)}`}>
      <span class="mark" aria-hidden="true" />
      {word(name)}
    </span>
  );
}

/** A figure of a `dl` with the class `figures`. */
export function Figure({ name, value, note }: { name: string; value: preact.ComponentChildren; note?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span class="value">{value}</span>
        {note && <span class="note">{note}</span>}
      </dd>
    </div>
  );
}

/** How much of a whole is taken, and where it was planned to be. */
export function Meter({ value, most, mark, label }: { value: number; most: number; mark?: number; label: string }) {
  const share = (part: number) => (most > 0 ? `${100 * Math.min(1, part / most)}%` : "0");
  return (
    <span class="meter" role="img" aria-label={label} title={label}>
      <span class="fill" style={{ width: share(value) }} />
      {mark !== undefined && <span class="tick" style={{ left: share(mark) }} />}
    </span>
  );
}

/** A table, which scrolls by itself where it is wider than the page. `by`: the id of the heading that names it, too. */
export function Table({ caption, by, children }: { caption: string; by?: string; children: preact.ComponentChildren }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={by ? undefined : caption} aria-labelledby={by}>
      <table>
        <caption class="unseen">{caption}</caption>
        {children}
      </table>
    </div>
  );
}

/** A page for keys with the scope deploy. `found`: whether there is something to show; `stale`: why it is not of now. */
export function OperatorsPage(props: {
  name: string;
  title: string;
  found: boolean;
  stale: string;
  children: preact.ComponentChildren;
}) {
  return (
    <div class={props.name}>
      <h1 class="unseen">{props.title}</h1>
      {!may("deploy") && <p class="notice">{t("notAllowed", { scopes: key.value?.scopes.join(", ") ?? "" })}</p>}
      <p class="stale" role="status">
        {props.stale && t("stale", { why: props.stale })}
      </p>
      {props.children}
      {!props.found && may("deploy") && !props.stale && <p class="notice">{t("page.loads")}</p>}
    </div>
  );
}
