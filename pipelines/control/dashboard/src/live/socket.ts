/** The WebSocket: every run of this page over one connection. */
import { socketAddress } from "../api/config";
import { type Ears, messageOf, type Wire } from "./messages";

const VERSION = "forge.v1";

/** Open it as whoever has the token; `subscriptions` are asked for as soon as it is open. */
export function socket(ears: Ears, token: string, log: () => string, subscriptions: () => Record<string, number>): Wire {
  const client = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
  const protocols = token ? [VERSION, `bearer.${token}`] : [VERSION];
  const open = new WebSocket(socketAddress(`/ws/${client}`), protocols);
  let over = false;
  const send = (content: unknown): void => {
    if (open.readyState === WebSocket.OPEN) open.send(JSON.stringify(content));
  };
  const end = (why: string): void => {
    if (over) return;
    over = true;
    ears.ended(why);
  };
  open.onopen = () => {
    const all = subscriptions();
    if (Object.keys(all).length) send({ subscribe: all, ...(log() && { log: log() }) });
  };
  open.onmessage = ({ data }) => {
    const message = over ? null : messageOf(String(data));
    if (message) ears.heard(message);
  };
  open.onclose = ({ code, reason }) => end(reason || `closed (${code})`);
  open.onerror = () => end("the connection failed");
  return {
    watch: (run, after) => send({ subscribe: { [run]: after } }),
    leave: (run) => send({ unsubscribe: [run] }),
    close: () => {
      over = true;
      open.close();
    },
  };
}
