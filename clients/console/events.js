// Server-sent events out of a response body (EventSource can neither POST nor send a key).

/** Yields each event's data. */
export async function* readEvents(body) {
  let rest = "";
  for await (const piece of pieces(body)) {
    rest += piece;
    const events = rest.split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const data = dataOf(event);
      if (data) yield data;
    }
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops listening stops the sequence
  }
}

const dataOf = (event) =>
  event
    .split(/\r?\n/)
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trimStart())
    .join("\n");
