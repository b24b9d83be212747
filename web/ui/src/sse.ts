// Reads a stream of server-sent events, with its comments.

/** An event, or a comment: a line that begins with a colon. */
export type Frame = { id: string; event: string; data: string } | { comment: string };

/** The frames of a response's body, in order. Throws what the connection does when it breaks. */
export async function* frames(body: ReadableStream<Uint8Array>): AsyncGenerator<Frame> {
  let id = "";
  let event = "";
  let data: string[] = [];
  for await (const line of lines(body)) {
    if (line === "") {
      if (data.length) yield { id, event, data: data.join("\n") };
      event = "";
      data = [];
    } else if (line.startsWith(":")) {
      yield { comment: line.slice(1).trim() };
    } else {
      const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
      if (name === "id") id = value ?? "";
      else if (name === "event") event = value ?? "";
      else if (name === "data") data.push(value ?? "");
    }
  }
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
