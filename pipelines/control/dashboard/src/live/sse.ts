/** The text format of server-sent events. */

export interface ServerEvent {
  event: string;
  data: string;
  id: string;
}

/** Takes text as it comes, in pieces of any size, and gives whole events. A comment is an event without data: a sign of life. */
export class ServerEvents {
  private rest = "";

  take(text: string): ServerEvent[] {
    const blocks = (this.rest + text).replace(/\r\n?/g, "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.filter(Boolean).map(eventOf);
  }
}

function eventOf(block: string): ServerEvent {
  const event: ServerEvent = { event: "message", data: "", id: "" };
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    else if (name === "event") event.event = value;
    else if (name === "id") event.id = value;
    else if (name === "") event.event = "comment";
  }
  return { ...event, data: data.join("\n") };
}

/** A body's text, piece by piece. */
export async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}
