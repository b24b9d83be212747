// Small parts that several pages show.
import { word } from "./i18n";

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
