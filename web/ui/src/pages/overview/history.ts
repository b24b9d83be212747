// The last hour as the server has kept it, and what this page has seen since.
import { computed } from "@preact/signals";
import { cluster, type Sample, samples } from "./cluster";

interface Point {
  at: string;
  tokens_per_second: number;
  running: number;
  slots: number;
  interactive: number;
  background: number;
  ended: number;
  failed: number;
  refused: number;
  provider_calls: number;
  provider_errors: number;
}

export interface ProviderCalls {
  provider: string;
  calls: number;
  errors: number;
  ends: { end: string; count: number }[];
}

export interface History {
  every_s: number;
  since: string | null;
  points: Point[];
  ends: { end: string; count: number }[];
  failures: { reason: string; count: number }[];
  replies: { status: number; reason: string; count: number }[];
  providers: ProviderCalls[];
}

/** What plots may span, in seconds: the first that has all there is. */
const SPANS_S = [600, 1200, 2400, 3600];

export const history = computed<History | null>(() => cluster.value?.history ?? null);

/** The points of the last hour, and behind them this page's samples. */
export const hour = computed<Sample[]>(() => {
  const points = (history.value?.points ?? []).map(({ at, tokens_per_second: tokens, ...point }) => ({
    at: Date.parse(at) / 1000,
    tokens,
    running: point.running,
    slots: point.slots,
    interactive: point.interactive,
    background: point.background,
  }));
  const last = points.at(-1)?.at ?? 0;
  return [...points, ...samples.value.filter((one) => one.at > last)];
});

export const spanS = computed(() => {
  const since = history.value?.since;
  const age = since ? (Date.now() - Date.parse(since)) / 1000 : 0;
  return SPANS_S.find((one) => one >= age) ?? 3600;
});

/** Jobs that ended, failed, and requests that were refused, each minute. */
export const perMinute = computed(() => {
  const found = history.value?.points ?? [];
  const share = 60 / (history.value?.every_s ?? 60);
  return {
    times: found.map((one) => Date.parse(one.at) / 1000),
    ended: found.map((one) => one.ended * share),
    failed: found.map((one) => one.failed * share),
    refused: found.map((one) => one.refused * share),
  };
});
