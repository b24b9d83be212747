// What keys have used, by day, and its sums.
export interface Row {
  day: string;
  key_id: string;
  key_name: string;
  model: string;
  currency: string;
  jobs: number;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  cost: number;
}

export const SPLITS = ["model", "key"] as const;
export type Split = (typeof SPLITS)[number];

/** `cost EUR` for each currency, beside the others. */
export type Measure = "tokens" | "jobs" | `cost ${string}`;

/** What one model or key has used; `days`: the measure by day. */
export interface Group {
  id: string;
  name: string;
  jobs: number;
  prompt: number;
  answer: number;
  costs: Record<string, number>;
  days: Map<string, number>;
  total: number;
}

/** As many as have a colour of their own in the plot. */
const SHOWN = 6;
const DAY_MS = 86_400_000;

/** The days of a report in UTC, oldest first. */
export function daysUntilToday(count: number): string[] {
  return Array.from({ length: count }, (_, index) => day(Date.now() - (count - 1 - index) * DAY_MS));
}

export function measures(rows: Row[]): Measure[] {
  const currencies = new Set(rows.filter((row) => row.cost).map((row) => row.currency));
  return ["tokens", "jobs", ...[...currencies].sort().map((one): Measure => `cost ${one}`)];
}

/** A group for each model or key, the largest first. */
export function groups(rows: Row[], split: Split, measure: Measure): Group[] {
  const found = new Map<string, Group>();
  for (const row of rows) {
    const [id, name] = split === "model" ? [row.model, row.model] : [row.key_id, row.key_name];
    const group = found.get(id) ?? empty(id, name);
    found.set(id, group);
    group.jobs += row.jobs;
    group.prompt += row.prompt_tokens;
    group.answer += row.completion_tokens;
    if (row.cost) group.costs[row.currency] = (group.costs[row.currency] ?? 0) + row.cost;
    const value = valueOf(row, measure);
    group.days.set(row.day, (group.days.get(row.day) ?? 0) + value);
    group.total += value;
  }
  return [...found.values()].sort((one, other) => other.total - one.total || one.name.localeCompare(other.name));
}

/** The groups for a plot: the largest, and all others as one. */
export function shown(all: Group[], others: string): Group[] {
  if (all.length <= SHOWN) return all;
  const rest = empty("", others);
  for (const group of all.slice(SHOWN - 1)) {
    rest.total += group.total;
    for (const [at, value] of group.days) rest.days.set(at, (rest.days.get(at) ?? 0) + value);
  }
  return [...all.slice(0, SHOWN - 1), rest];
}

function empty(id: string, name: string): Group {
  return { id, name, jobs: 0, prompt: 0, answer: 0, costs: {}, days: new Map(), total: 0 };
}

function valueOf(row: Row, measure: Measure): number {
  if (measure === "tokens") return row.total_tokens;
  if (measure === "jobs") return row.jobs;
  return row.currency === measure.slice("cost ".length) ? row.cost : 0;
}

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
