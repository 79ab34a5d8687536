/** Server-sent events, one stream a run, where a proxy lets no WebSocket through. Read by fetch, which can carry the token. */
import { apiAddress } from "../api/config";
import { asked } from "../api/client";
import { type Ears, type Wire } from "./messages";
import { gone, readers } from "./readers";
import { linesOf, ServerEvents } from "./sse";
import type { ForgeEvent } from "../api/shapes";

/** A proxy that keeps what it should pass on is noticed after so long. */
const SILENCE_SECONDS = 25;

export function stream(ears: Ears, log: () => string, subscriptions: () => Record<string, number>): Wire {
  const { wire, end, over } = readers(ears, (run, after, signal) => {
    read(run, after, signal).catch((error: unknown) => {
      if (!signal.aborted) end(String(error));
    });
  });

  async function read(run: string, after: number, signal: AbortSignal): Promise<void> {
    const query = new URLSearchParams({ after: String(after), ...(log() && { log: log() }) });
    const request = new Request(`${apiAddress() || location.origin}/phases/runs/${encodeURIComponent(run)}/events?${query}`, {
      headers: { accept: "text/event-stream" },
      signal,
    });
    const answer = await asked(request);
    if (answer.status === 410) return gone(ears, run);
    if (!answer.ok || !answer.body) return end(`the stream was refused (${answer.status})`);
    const parser = new ServerEvents();
    let silence = setTimeout(() => end("the stream is silent"), SILENCE_SECONDS * 1000);
    for await (const text of linesOf(answer.body)) {
      clearTimeout(silence);
      silence = setTimeout(() => end("the stream is silent"), SILENCE_SECONDS * 1000);
      if (over() || signal.aborted) break;
      for (const { event, data, id } of parser.take(text)) heard(run, event, data, id);
    }
    clearTimeout(silence);
    if (!signal.aborted) end("the stream has ended");
  }

  function heard(run: string, kind: string, data: string, id: string): void {
    if (id.includes(":")) ears.heard({ type: "hello", log: id.slice(0, id.lastIndexOf(":")) });
    const content: unknown = data ? JSON.parse(data) : null;
    if (content && typeof content === "object" && "seq" in content) {
      const event = content as ForgeEvent;
      ears.heard({ type: "events", run, events: [event], last: event.seq });
    } else if (kind === "caught_up") {
      ears.heard({ type: "caught_up", run, last: Number((content as { last?: number } | null)?.last ?? 0) });
    } else if (kind === "gone") {
      void gone(ears, run);
    } else {
      ears.heard({ type: "ping" });
    }
  }

  Object.entries(subscriptions()).forEach(([run, after]) => wire.watch(run, after));
  return wire;
}
