/** The run's events, the newest first, as they are in the log. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { getEvents, type EventPage } from "../api/queries";
import type { ForgeEvent, Heard, RunDetail } from "../api/shapes";
import { useChoice } from "../kit/address";
import { Shown } from "../kit/states";
import { Table } from "../kit/table";
import { exactly, moment } from "../kit/time";

const SHOWN = 300;
const CHANNELS = ["phase_progress", "metrics", "logs", "errors", "global"];

export default function Events({ run, hear }: { run: RunDetail; hear: (listener: Heard) => () => void }) {
  const [choice, choose] = useChoice();
  const client = useQueryClient();
  const key = ["events", run.id];
  const query = useQuery({
    queryKey: key,
    queryFn: ({ signal }) => getEvents(run.id, { after: Math.max(0, run.last_seq - SHOWN), limit: SHOWN }, signal),
    staleTime: Infinity,
  });
  useEffect(
    () =>
      hear((events) =>
        client.setQueryData<EventPage>(["events", run.id], (page) => {
          if (!page) return page;
          const last = page.events.at(-1)?.seq ?? 0;
          return { ...page, events: [...page.events, ...events.filter(({ seq }) => seq > last)].slice(-SHOWN) };
        }),
      ),
    [hear, client, run.id],
  );
  const channel = choice.channel ?? "";
  return (
    <>
      <div className="row">
        <select aria-label="channel" value={channel} onChange={(event) => choose({ channel: event.target.value })}>
          <option value="">channel: any</option>
          {CHANNELS.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <span className="soft small">the newest {SHOWN} of {run.last_seq}</span>
      </div>
      <Shown query={query} what="the events">
        {(page) => (
          <Table
            caption="Events"
            empty="No event fits. The first comes when the run starts."
            columns={[
              { title: "no.", number: true, cell: (event: ForgeEvent) => event.seq },
              { title: "time", cell: (event) => <span title={exactly(event.time)}>{moment(event.time)}</span> },
              { title: "channel", cell: (event) => event.channel },
              { title: "task", cell: (event) => event.task },
              { title: "what", wide: true, cell: (event) => <span className="mono">{inShort(event)}</span> },
            ]}
            rows={page.events.filter((event) => !channel || event.channel === channel).toReversed()}
            id={(event) => event.seq}
          />
        )}
      </Shown>
    </>
  );
}

const LONG = 220;

/** What an event says, on a line or two. */
function inShort({ data }: ForgeEvent): string {
  const { kind, ...rest } = data;
  if (kind === "progress") return `${rest.stage} ${rest.step}/${rest.total}`;
  if (kind === "task") return [rest.status, rest.error].filter(Boolean).join(": ");
  if (kind === "run") return String(rest.status ?? rest.state ?? "");
  if (kind === "log") return (rest.lines as string[]).join(" ⏎ ").slice(0, LONG);
  if (kind === "error") return [rest.what, rest.why].filter(Boolean).join(": ").slice(0, LONG);
  return JSON.stringify(rest.values ?? rest).slice(0, LONG);
}
