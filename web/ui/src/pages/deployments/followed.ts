// One deployment as it goes on: each of its events has the server asked how it stands.
import { signal } from "@preact/signals";
import { ApiError, get, send } from "../../api";
import { reasonOf } from "../../session";
import { frames } from "../../sse";
import { hasEnded, look, type Summary, stale } from "./state";

export interface Stage {
  name: string;
  status: string;
  progress?: number;
  units_done?: number;
  units_total?: number;
  duration?: string;
}

export interface Detail extends Summary {
  stages: Stage[];
  logs: { timestamp: string; level: string; message: string }[];
  estimated_completion: string | null;
  replicas: { replica_id: string; node_id: string; device: string; status: string }[];
  warnings?: string[];
}

/** The least time between two questions, and between two connections. */
const ASK_MS = 250;
const RETRY_MS = 1000;

export const followed = signal<Detail | null>(null);

/** Follows one until the returned function is called, or it has ended. */
export function follow(id: string): () => void {
  const stop = new AbortController();
  followed.value = null;
  if (id) void read(id, stop.signal);
  return () => stop.abort();
}

async function read(id: string, stop: AbortSignal): Promise<void> {
  const path = `models/local/deployments/${id}`;
  for (let cursor = ""; !stop.aborted; ) {
    try {
      if (await ask(path, stop)) return look();
      const headers: Record<string, string> = cursor ? { "Last-Event-ID": cursor } : {};
      const { body } = await send(`${path}/events`, { headers, signal: stop });
      let askedAt = Date.now();
      let timer = 0;
      for await (const frame of body ? frames(body) : []) {
        if (!("event" in frame)) continue;
        cursor = frame.id || cursor;
        clearTimeout(timer);
        const inMs = Math.max(0, askedAt + ASK_MS - Date.now());
        timer = setTimeout(() => ((askedAt = Date.now()), void ask(path, stop).catch(() => undefined)), inMs);
      }
      clearTimeout(timer);
    } catch (error) {
      if (stop.aborted) return;
      stale.value = reasonOf(error);
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) return;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Returns whether it has ended. Throws: ApiError. */
async function ask(path: string, stop: AbortSignal): Promise<boolean> {
  const found = await get<Detail>(path, { signal: stop });
  if (!stop.aborted) followed.value = found;
  return hasEnded(found);
}
