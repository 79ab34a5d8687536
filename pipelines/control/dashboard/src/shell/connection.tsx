import { useEffect, useState } from "react";
import { moment } from "../kit/time";
import { useStanding } from "../live/use";
import type { Standing } from "../live/connection";

const WAYS = { websocket: "over a WebSocket", stream: "over server-sent events", polling: "by asking again and again" };

export function inWords({ kind, behind, seconds, heard }: Standing): string {
  if (kind === "catching up") return behind ? `catching up ${behind}` : "catching up";
  if (kind === "reconnecting") return `reconnecting${seconds ? ` in ${seconds} s` : ""} · as of ${moment(heard / 1000)}`;
  if (kind === "as of") return `as of ${moment(heard / 1000)}`;
  if (kind === "off") return "not connected";
  return kind;
}

/** Whether what is on the page is true now: always in sight. */
export function ConnectionState() {
  const standing = useStanding();
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 10_000);
    return () => clearInterval(timer);
  }, []);
  const words = inWords(standing);
  const tone = { "catching up": "catching", "as of": "asof", connecting: "", off: "", live: "live", reconnecting: "reconnecting" }[standing.kind];
  return (
    <span className={`standing ${tone}`} role="status" title={[words, WAYS[standing.way], standing.why].filter(Boolean).join(" · ")}>
      <i aria-hidden="true" />
      {words}
    </span>
  );
}
