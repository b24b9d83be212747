// Follows what the server answers, while somebody sees the page.
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, type Envelope, errorOf, send } from "./api";
import { reasonOf } from "./session";
import { frames } from "./sse";

/** Ms between two connections: at first, and at most. */
const FIRST_MS = 500;
const MOST_MS = 10_000;
/** What asks by itself waits for at least so many times as long as its last look took: what is slow is asked for less
 * often. */
const REST = 4;

/** Calls `look`, and again so long after it has ended, until the returned function is called. */
export function repeat(look: () => Promise<void>, everyMs: number): () => void {
  let timer = 0;
  let running = false;
  let over = false;
  async function round() {
    if (running) return;
    clearTimeout(timer);
    running = true;
    const began = performance.now();
    try {
      if (!document.hidden) await look();
    } finally {
      running = false;
      if (!over) timer = setTimeout(round, Math.max(everyMs, REST * (performance.now() - began)));
    }
  }
  const stopSeeing = whenSeen(() => void (document.hidden || round()));
  void round();
  return () => {
    over = true;
    clearTimeout(timer);
    stopSeeing();
  };
}

export interface Following {
  /** Has the server say all of it now, unless it has been stopped. */
  again: () => void;
  stop: () => void;
}

/**
 * Follows what GET of some paths answers: `take` is given all their data, first and whenever an answer has changed, or
 * only once if it is not `live`; `fail` why one of them has failed, or the connection. Over one connection, since a
 * browser has few.
 */
export function follow<T extends unknown[]>(
  paths: string[],
  take: (...data: T) => void,
  fail: (error: unknown) => void,
  live = true,
): Following {
  const query = paths.map((path) => `look=${encodeURIComponent(`/${path}`)}`).join("&");
  let connection = new AbortController();
  let over = false;

  async function read(stop: AbortSignal) {
    const answers = new Map<string, Envelope>();
    for (let pauseMs = FIRST_MS; !stop.aborted; pauseMs = Math.min(2 * pauseMs, MOST_MS)) {
      try {
        const { body } = await send(`dashboard/watch?${query}`, { signal: stop, headers: { Accept: "*/*" } });
        for await (const frame of body ? frames(body) : []) {
          if (stop.aborted || !("data" in frame)) continue;
          pauseMs = FIRST_MS / 2;
          const said = JSON.parse(frame.data) as Record<string, { body: Envelope }>;
          for (const [path, { body }] of Object.entries(said)) answers.set(path, body);
          if (tell(paths.flatMap((path) => answers.get(`/${path}`) ?? [])) && !live) return;
        }
      } catch (error) {
        if (stop.aborted) return;
        fail(error);
        if (error instanceof ApiError && error.status === 401) return;
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
  /** Whether all is there. */
  function tell(all: Envelope[]): boolean {
    const wrong = all.find(({ data }) => data?.reason);
    if (wrong) fail(errorOf(wrong));
    else if (all.length === paths.length) take(...(all.map(({ data }) => data) as unknown as T));
    return !wrong && all.length === paths.length;
  }
  function again() {
    connection.abort();
    connection = new AbortController();
    if (!over && !(live && document.hidden)) void read(connection.signal);
  }
  const stopSeeing = live ? whenSeen(again) : () => undefined;
  again();
  return {
    again,
    stop: () => {
      over = true;
      stopSeeing();
      connection.abort();
    },
  };
}

function whenSeen(act: () => void): () => void {
  document.addEventListener("visibilitychange", act);
  return () => document.removeEventListener("visibilitychange", act);
}

export interface Live<T> {
  found: T | null;
  /** Why the last look has failed; empty: it has not. */
  wrong: Signal<string>;
  look: () => void;
}

/** What GET of a path answers, once or as long as it is `live`, and anew with another path: what comes late is dropped. */
export function useLive<T>(path: string, live = true): Live<T> {
  const found = useSignal<T | null>(null);
  const wrong = useSignal("");
  const following = useRef<Following | null>(null);
  useEffect(() => {
    const take = (data: T) => {
      found.value = data;
      wrong.value = "";
    };
    following.current = follow<[T]>([path], take, (error) => (wrong.value = reasonOf(error)), live);
    return following.current.stop;
  }, [path, live]);
  return { found: found.value, wrong, look: () => following.current?.again() };
}

/** The time in ms, anew so often while something `runs`. */
export function useNow(everyMs: number, runs: boolean): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!runs) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, runs]);
  return now;
}
