// What has happened to a job, as bars and marks on lanes over time. Knows nothing of pixels.
import { duration, number } from "../../format";
import { type Text, t, word } from "../../i18n";
import { enJobs } from "../../texts/jobs";

export interface Entry {
  after_s: number | null;
  what: string;
  position?: number;
  worker?: string;
  model?: string;
  behind_tokens?: number;
  batch?: number;
  cause?: string;
  tokens?: number;
  silent_s?: number;
}

export interface Timeline {
  job_id: string;
  kind: string;
  model: string;
  key_id: string;
  status: string;
  priority: string;
  created_at: string;
  finished_at: string | null;
  error: { reason?: string; message?: string } | null;
  usage: { completion_tokens?: number } | null;
  prompt_tokens: number | null;
  cached_tokens: number | null;
  waited_s: number | null;
  first_token_s: number | null;
  elapsed_s: number;
  paused_s: number;
  replayed_tokens: number;
  timeline: Entry[];
}

/** `waiting` in line, `gap`: again, until somebody goes on; `silent`: nothing is heard of the worker. */
export type Phase = "waiting" | "gap" | "prefill" | "working" | "decoding" | "silent";

/** Times are seconds after the request; `to` null: it goes on. */
export interface Bar {
  lane: number;
  phase: Phase;
  from: number;
  to: number | null;
}

export interface Mark {
  lane: number;
  at: number;
  what: "lost" | "gave_way" | "handed_over" | "cancelling" | "completed" | "failed" | "cancelled";
}

/** A size of the batch, from a time on. */
export interface Size {
  lane: number;
  from: number;
  to: number | null;
  batch: number;
}

export interface History {
  /** What each lane is called; the first one is the line. */
  lanes: string[];
  bars: Bar[];
  marks: Mark[];
  sizes: Size[];
  /** Where somebody went on, behind tokens that others have made. */
  resumes: { lane: number; at: number; tokens: number }[];
  /** When the job went from one lane to another. */
  moves: { at: number; from: number; to: number }[];
}

const ENDS = ["completed", "failed", "cancelled"] as const;
/** The line's lane. */
const LINE = 0;

export function history(found: Timeline): History {
  const drawn: History = { lanes: [t("history.line")], bars: [], marks: [], sizes: [], resumes: [], moves: [] };
  const text = found.kind === "chat" || found.kind === "completion";
  let lane = LINE;

  const last = () => drawn.bars.at(-1);
  function close(at: number): void {
    for (const one of [last(), drawn.sizes.at(-1)]) if (one && one.to === null) one.to = Math.max(one.from, at);
  }
  function begin(phase: Phase, at: number): void {
    close(at);
    drawn.bars.push({ lane, phase, from: at, to: null });
  }
  function move(to: number, at: number): void {
    close(at);
    if (drawn.bars.length) drawn.moves.push({ at, from: lane, to });
    lane = to;
  }

  for (const entry of found.timeline) {
    const at = entry.after_s ?? 0;
    const end = ENDS.find((one) => one === entry.what);
    if (entry.what === "queued") begin("waiting", at);
    else if (entry.what === "claimed") {
      const worker = entry.worker ?? "";
      if (!drawn.lanes.includes(worker)) drawn.lanes.push(worker);
      move(drawn.lanes.indexOf(worker), at);
      begin(text ? "prefill" : "working", at);
      if (entry.behind_tokens) drawn.resumes.push({ lane, at, tokens: entry.behind_tokens });
    } else if (entry.what === "first_token") {
      begin("decoding", at);
      if (entry.batch) drawn.sizes.push({ lane, from: at, to: null, batch: entry.batch });
    } else if (entry.what === "batch") {
      const size = drawn.sizes.at(-1);
      if (size && size.to === null) size.to = at;
      drawn.sizes.push({ lane, from: at, to: null, batch: entry.batch ?? 0 });
    } else if (entry.what === "interrupted") {
      const gaveWay = entry.cause === "preempted";
      if (!gaveWay && entry.silent_s) begin("silent", Math.max(last()?.from ?? at, at - entry.silent_s));
      close(at);
      drawn.marks.push({ lane, at, what: gaveWay || entry.cause === "given_back" ? "gave_way" : "lost" });
      move(LINE, at);
      begin("gap", at);
    } else if (entry.what === "handed_over") {
      drawn.marks.push({ lane, at, what: "handed_over" });
      move(LINE, at);
      begin("gap", at);
    } else if (entry.what === "cancelling") {
      drawn.marks.push({ lane, at, what: "cancelling" });
    } else if (end) {
      close(at);
      drawn.marks.push({ lane, at, what: end });
    }
  }
  return drawn;
}

/** An entry as a sentence. */
export function sentence(entry: Entry): string {
  const { what, position = 0, worker = "", model = "", behind_tokens: behind = 0, batch = 0, silent_s: silent } = entry;
  if (what === "queued") return position ? t("history.queued", { position: number(position) }) : t("history.made");
  if (what === "claimed" && behind) return t("history.resumed", { worker, model, tokens: number(behind) });
  if (what === "claimed") return t("history.claimed", { worker, model });
  if (what === "first_token" || what === "batch") {
    const size = batch ? t("history.inBatch", { batch: number(batch) }) : "";
    return what === "batch" ? t("history.batch", { batch: number(batch) }) : t("history.first") + size;
  }
  if (what === "interrupted") {
    const heard = silent && entry.cause !== "preempted" ? t("history.heard", { time: duration(silent) }) : "";
    const name = `history.cause.${entry.cause}`;
    const cause = name in enJobs ? t(name as Text) : word(entry.cause ?? "");
    return t("history.interrupted", { cause, tokens: number(entry.tokens ?? 0) }) + heard;
  }
  if (what === "handed_over") return t("history.handedOver", { model });
  return word(what);
}

/** The whole in a sentence, for who doesn't see the picture. */
export function summary(found: Timeline): string {
  const claims = found.timeline.filter((entry) => entry.what === "claimed").length;
  const text = t("history.summary", {
    status: word(found.status),
    elapsed: duration(found.elapsed_s),
    waited: duration(found.waited_s ?? found.elapsed_s),
    claims: number(claims),
  });
  if (!found.paused_s) return text;
  return text + t("history.paused", { paused: duration(found.paused_s), tokens: number(found.replayed_tokens) });
}
