// Looks again and again, while somebody sees the page.

/** Calls `look`, and again so long after it has ended, until the returned function is called. */
export function repeat(look: () => Promise<void>, everyMs: number): () => void {
  let timer = 0;
  let running = false;
  let over = false;
  async function round() {
    if (running) return;
    clearTimeout(timer);
    running = true;
    try {
      if (!document.hidden) await look();
    } finally {
      running = false;
      if (!over) timer = setTimeout(round, everyMs);
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
