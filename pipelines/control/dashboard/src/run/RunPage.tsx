/** One run: how it is, what can be done, and everything that it has left. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useCallback, useEffect, useRef } from "react";
import { getRun } from "../api/queries";
import type { Heard, RunDetail } from "../api/shapes";
import { useChoice } from "../kit/address";
import { useNow } from "../kit/now";
import { Loading, Shown } from "../kit/states";
import { PhaseMonitor } from "../kit/strip";
import { Tabs } from "../kit/tabs";
import { useEvents } from "../live/use";
import { applied, decisive } from "./fold";
import { Head } from "./head";
import { Timeline } from "./Timeline";

const Logs = lazy(() => import("./Logs"));
const MetricsDashboard = lazy(() => import("./MetricsDashboard"));
const Evolution = lazy(() => import("./Evolution"));
const Lineage = lazy(() => import("./Lineage"));
const Settings = lazy(() => import("./Settings"));
const Events = lazy(() => import("./Events"));

const TABS = [
  ["timeline", "Timeline"],
  ["logs", "Logs"],
  ["metrics", "Metrics"],
  ["evolution", "Evolution"],
  ["lineage", "Lineage"],
  ["settings", "Settings"],
  ["events", "Events"],
] as const;
type Tab = (typeof TABS)[number][0];

/** What a state's change brings is read from the server, but no more often than this. */
const REREAD_SECONDS = 4;

export default function RunPage({ id }: { id: string }) {
  const [choice, choose] = useChoice();
  const client = useQueryClient();
  const key = ["run", id];
  const query = useQuery({ queryKey: key, queryFn: ({ signal }) => getRun(id, signal), staleTime: Infinity });
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const heard = useRef(new Set<Heard>());
  const hear = useCallback((listener: Heard) => {
    heard.current.add(listener);
    return () => void heard.current.delete(listener);
  }, []);
  const reread = useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = null;
      void client.invalidateQueries({ queryKey: ["run", id] });
    }, REREAD_SECONDS * 1000);
  }, [client, id]);
  useEffect(
    () => () => {
      if (timer.current) clearTimeout(timer.current);
    },
    [],
  );
  useEvents(id, query.data ? query.data.last_seq : null, {
    events: (events) => {
      client.setQueryData<RunDetail>(key, (run) => run && applied(run, events));
      heard.current.forEach((listener) => listener(events));
      if (!decisive(events)) return;
      if (events.some(({ data }) => data.kind === "run")) void client.invalidateQueries({ queryKey: key });
      else reread();
    },
    reset: () => void client.resetQueries({ queryKey: key }),
  });
  const tab = (TABS.find(([name]) => name === choice.tab)?.[0] ?? "timeline") as Tab;
  return (
    <>
    {!query.data && <h1>{id}</h1>}
    <Shown query={query} what="the run">
      {(run) => (
        <>
          <LiveHead run={run} />
          <Tabs label="The run" tabs={TABS} chosen={tab} choose={(name) => choose({ tab: name, line: "", attempt: "" })}>
            <Suspense fallback={<Loading what="it" />}>
              {tab === "timeline" && <Timeline run={run} />}
              {tab === "logs" && <Logs run={run} hear={hear} />}
              {tab === "metrics" && <MetricsDashboard run={run} hear={hear} />}
              {tab === "evolution" && <Evolution run={run} />}
              {tab === "lineage" && <Lineage run={run} />}
              {tab === "settings" && <Settings run={run} />}
              {tab === "events" && <Events run={run} hear={hear} />}
            </Suspense>
          </Tabs>
        </>
      )}
    </Shown>
    </>
  );
}

function LiveHead({ run }: { run: RunDetail }) {
  const now = useNow(1);
  return (
    <>
      <Head run={run} now={now} />
      <PhaseMonitor phases={run.phases} />
    </>
  );
}
