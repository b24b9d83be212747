// Looks again and again, while somebody sees the page.
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { reasonOf } from "./session";

/** A look waits for at least so many times as long as the last one took: what is slow is asked for less often. */
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
  const seen = () => void (document.hidden || round());
  document.addEventListener("visibilitychange", seen);
  void round();
  return () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}

export interface Live<T> {
  found: T | null;
  /** Why the last look has failed; empty: it has not. */
  wrong: Signal<string>;
  look: () => Promise<void>;
}

/** What `ask` answers, every so many ms (0: once), and anew with other `inputs`: what comes late is dropped. */
export function useLive<T>(ask: () => Promise<T>, everyMs: number, ...inputs: unknown[]): Live<T> {
  const found = useSignal<T | null>(null);
  const wrong = useSignal("");
  const turn = useRef(0);

  async function look() {
    const mine = turn.current;
    try {
      const answer = await ask();
      if (mine !== turn.current) return;
      found.value = answer;
      wrong.value = "";
    } catch (error) {
      if (mine === turn.current) wrong.value = reasonOf(error);
    }
  }
  useEffect(() => {
    turn.current += 1;
    if (everyMs) return repeat(look, everyMs);
    void look();
  }, [everyMs, ...inputs]);
  return { found: found.value, wrong, look };
}
