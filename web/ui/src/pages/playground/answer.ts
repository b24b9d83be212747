// One answer: asked for, followed through every break of its stream, and what happened to it on the way.
import { type Signal, signal } from "@preact/signals";
import { ApiError, get, modelPath, send } from "../../api";
import { frames } from "../../sse";
import { noticed } from "../../session";

/** What happened behind so many characters: another worker took over, the page was loaded anew, text became void. */
export interface Incident {
  kind: "tookOver" | "reloaded" | "rewound";
  characters: number;
  /** How long no token came; null: nobody has measured. */
  afterMs: number | null;
}

export interface ToolCall {
  name: string;
  arguments: string;
}

export interface AnswerData {
  model: string;
  /** The request without `stream`, as it can be sent again. */
  body: Record<string, unknown>;
  /** The same key attaches to the same job, so that a request whose reply was lost is not made twice. */
  idempotencyKey: string;
  jobId: string;
  /** The journal's place behind which the stream goes on: `{seq}-{claim}`. */
  cursor: string;
  text: string;
  reasoning: string;
  calls: ToolCall[];
  ended: boolean;
  finish: string;
  error: string;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  incidents: Incident[];
  askedAt: number;
  firstAt: number;
  lastAt: number;
  endedAt: number;
}

/** What one waits for; not kept. */
export interface Waiting {
  position: number;
  etaS: number | null;
  loading: number | null;
  disconnected: boolean;
}

interface Chunk {
  choices: { delta: Delta; finish_reason: string | null }[];
  usage?: AnswerData["usage"];
  rewound?: { text: Record<string, string> };
  snapshot?: { text: Record<string, string> };
}

interface Delta {
  content?: string;
  reasoning_content?: string;
  tool_calls?: { index: number; function?: { name?: string; arguments?: string } }[];
}

const CALM: Waiting = { position: 0, etaS: null, loading: null, disconnected: false };
const RETRY_MS = [200, 400, 800, 1500, 3000, 5000];

export class Answer {
  readonly data: Signal<AnswerData>;
  readonly waiting = signal<Waiting>(CALM);
  #draft: AnswerData;
  #frame = 0;
  #abort = new AbortController();
  #stopped = false;

  constructor(data: AnswerData) {
    this.#draft = data;
    this.data = signal(data);
  }

  static ask(model: string, body: Record<string, unknown>): Answer {
    const now = Date.now();
    const times = { askedAt: now, firstAt: 0, lastAt: 0, endedAt: 0 };
    const empty = { text: "", reasoning: "", calls: [], ended: false, finish: "", error: "", usage: null };
    const job = { idempotencyKey: crypto.randomUUID(), jobId: "", cursor: "", incidents: [] };
    return new Answer({ model, body, ...job, ...empty, ...times });
  }

  /** What is to be kept over a reload. */
  get kept(): AnswerData {
    return this.#draft;
  }

  /** A reload has cut the stream: it goes on from where it was. */
  resume(): void {
    if (this.#draft.ended) return;
    if (this.#draft.jobId) this.#note("reloaded", null);
    void this.follow();
  }

  /** Reads the stream to its end, over as many connections as it takes. */
  async follow(): Promise<void> {
    for (let tries = 0; !this.#draft.ended; ) {
      const before = this.#draft.cursor;
      try {
        await this.#read(await this.#open());
      } catch (error) {
        if (this.#gaveUp(error)) break;
      }
      if (this.#draft.ended || this.#stopped) break;
      tries = this.#draft.cursor === before ? tries + 1 : 0;
      this.#wait({ disconnected: tries > 1 });
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));
    }
    if (!this.#draft.ended) this.#change({ ended: true, endedAt: Date.now(), finish: this.#stopped ? "cancelled" : "" });
    this.waiting.value = CALM;
  }

  /** Cancels the job; what has come so far stays. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const { jobId } = this.#draft;
    if (jobId) await get(`jobs/${jobId}`, { method: "DELETE" }).catch(noticed);
    else this.#abort.abort();
  }

  #open(): Promise<Response> {
    const { jobId, cursor, model, body, idempotencyKey } = this.#draft;
    const signal = this.#abort.signal;
    if (jobId) {
      const headers: Record<string, string> = cursor ? { "Last-Event-ID": cursor } : {};
      return send(`jobs/${jobId}/events`, { headers, signal });
    }
    const headers = { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey };
    const whole = { ...body, stream: true, stream_options: { include_usage: true } };
    return send(modelPath(model, "chat/completions"), { method: "POST", headers, signal, body: JSON.stringify(whole) });
  }

  /** Whether an error ends the answer; else it is tried again. */
  #gaveUp(error: unknown): boolean {
    noticed(error);
    if (this.#stopped && !this.#draft.jobId) return true;
    if (!(error instanceof ApiError) || error.status === 0) return false; // a broken connection
    if (this.#draft.jobId && error.status === 503) return false;
    this.#change({ error: error.message, ended: true, endedAt: Date.now() });
    return true;
  }

  async #read(response: Response): Promise<void> {
    this.#change({ jobId: response.headers.get("X-Job-Id") ?? this.#draft.jobId });
    if (!response.body) return;
    for await (const frame of frames(response.body)) {
      this.#wait({ disconnected: false });
      if ("comment" in frame) this.#comment(frame.comment);
      else if (frame.data === "[DONE]") this.#change({ ended: true, endedAt: Date.now() });
      else if (frame.event === "error") this.#change({ error: (JSON.parse(frame.data) as { message: string }).message });
      else this.#take(frame.id, JSON.parse(frame.data) as Chunk);
    }
  }

  #take(cursor: string, chunk: Chunk): void {
    const draft = this.#draft;
    const claim = (id: string) => id.split("-")[1] ?? "";
    if (claim(draft.cursor) && claim(cursor) && claim(cursor) !== claim(draft.cursor))
      this.#note("tookOver", draft.lastAt ? Date.now() - draft.lastAt : null);
    const change: Partial<AnswerData> = { cursor, usage: chunk.usage ?? draft.usage };
    const stands = chunk.rewound ?? chunk.snapshot;
    if (stands) Object.assign(change, { text: stands.text["0"] ?? "", reasoning: "", calls: [] });
    if (chunk.rewound) this.#note("rewound", null);
    for (const { delta, finish_reason: finish } of chunk.choices) {
      if (delta.content || delta.reasoning_content || delta.tool_calls) {
        const now = Date.now();
        Object.assign(change, { firstAt: draft.firstAt || now, lastAt: now });
        change.text = (change.text ?? draft.text) + (delta.content ?? "");
        change.reasoning = (change.reasoning ?? draft.reasoning) + (delta.reasoning_content ?? "");
        change.calls = merged(change.calls ?? draft.calls, delta.tool_calls ?? []);
        this.#wait({ position: 0, etaS: null, loading: null });
      }
      if (finish) change.finish = finish;
    }
    this.#change(change);
  }

  /** `queued position=2 eta=3.5`, `loading 40 % stage=…`: what one waits for. */
  #comment(text: string): void {
    const queued = /^queued position=(\d+)(?: eta=([\d.]+))?/.exec(text);
    if (queued) this.#wait({ position: Number(queued[1]), etaS: queued[2] ? Number(queued[2]) : null });
    const loading = /^loading (\d+) %/.exec(text);
    if (loading) this.#wait({ loading: Number(loading[1]) });
  }

  #note(kind: Incident["kind"], afterMs: number | null): void {
    this.#draft = {
      ...this.#draft,
      incidents: [...this.#draft.incidents, { kind, characters: this.#draft.text.length, afterMs }],
    };
  }

  #wait(change: Partial<Waiting>): void {
    const next = { ...this.waiting.value, ...change };
    if (JSON.stringify(next) !== JSON.stringify(this.waiting.value)) this.waiting.value = next;
  }

  /** Changes are shown once a frame, however many tokens come. */
  #change(change: Partial<AnswerData>): void {
    this.#draft = { ...this.#draft, ...change };
    if (this.#draft.ended) this.data.value = this.#draft;
    else this.#frame ||= requestAnimationFrame(() => ((this.#frame = 0), (this.data.value = this.#draft)));
  }
}

function merged(calls: ToolCall[], pieces: NonNullable<Delta["tool_calls"]>): ToolCall[] {
  const next = calls.map((call) => ({ ...call }));
  for (const { index, function: piece } of pieces) {
    const call = (next[index] ??= { name: "", arguments: "" });
    call.name += piece?.name ?? "";
    call.arguments += piece?.arguments ?? "";
  }
  return next;
}
