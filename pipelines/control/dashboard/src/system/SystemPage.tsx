/** The server itself: what waits, what it has, its jobs, alerts, keys and audit. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "wouter";
import { ask } from "../api/client";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { useChoice } from "../kit/address";
import { State } from "../kit/badge";
import { flat, shown } from "../kit/flat";
import { Empty, Shown } from "../kit/states";
import { Table } from "../kit/table";
import { Tabs } from "../kit/tabs";
import { duration, figure, moment } from "../kit/time";
import { say, sayProblem } from "../kit/toast";
import { Audit } from "./Audit";
import { Keys } from "./Keys";

const TABS = [
  ["queue", "Queue"],
  ["pools", "Pools"],
  ["jobs", "Jobs"],
  ["alerts", "Alerts"],
  ["keys", "Keys"],
  ["audit", "Audit"],
  ["server", "Server"],
] as const;

interface System {
  queue: Record<string, unknown>[] | Record<string, unknown>;
  pools: Record<string, unknown>[] | Record<string, unknown>;
  jobs: Job[];
  storage?: unknown;
  version?: unknown;
  [key: string]: unknown;
}

interface Job {
  name: string;
  every: number;
  started: number | null;
  finished: number | null;
  next: number;
  result: unknown;
}

const getSystem = (signal?: AbortSignal) => ask<System>("get", "/system", { signal });

export default function SystemPage() {
  const [choice, choose] = useChoice();
  const tab = TABS.find(([name]) => name === choice.tab)?.[0] ?? "queue";
  const query = useQuery({ queryKey: ["system"], queryFn: ({ signal }) => getSystem(signal), refetchInterval: 15_000 });
  return (
    <>
      <h1>System</h1>
      <Tabs label="System" tabs={TABS} chosen={tab} choose={(name) => choose({ tab: name })}>
        {tab === "alerts" ? (
          <Alerts />
        ) : tab === "keys" ? (
          <Keys />
        ) : tab === "audit" ? (
          <Audit />
        ) : (
          <Shown query={query} what="how the server is">
            {(system) =>
              tab === "queue" ? <Queue system={system} /> : tab === "pools" ? <Pools system={system} /> : tab === "jobs" ? <Jobs system={system} /> : <Server system={system} />
            }
          </Shown>
        )}
      </Tabs>
    </>
  );
}

const rowsOf = (value: unknown, key: string): Record<string, unknown>[] => {
  if (Array.isArray(value)) return value as Record<string, unknown>[];
  const inner = (value as Record<string, unknown> | null)?.[key];
  return Array.isArray(inner) ? (inner as Record<string, unknown>[]) : [];
};

function Queue({ system }: { system: System }) {
  const rows = rowsOf(system.queue, "runs");
  if (rows.length === 0) return <Empty title="Nothing waits">A run that waits says here for what.</Empty>;
  return (
    <Table
      caption="Queue"
      columns={[
        { title: "run", cell: (row) => <Link href={`/ui/runs/${encodeURIComponent(String(row.id ?? row.run))}`}>{String(row.id ?? row.run)}</Link> },
        { title: "state", cell: (row) => <State state={String(row.state ?? "queued")} /> },
        { title: "priority", number: true, cell: (row) => figure(row.priority) },
        { title: "by", cell: (row) => String(row.owner_name || row.owner || "–") },
        { title: "waits for", wide: true, cell: (row) => String(row.why ?? "") },
        { title: "since", number: true, cell: (row) => moment(row.created as number) },
      ]}
      rows={rows}
      id={(row, index) => String(row.id ?? row.run ?? index)}
    />
  );
}

function Pools({ system }: { system: System }) {
  const rows = [...flat(system.pools)];
  return (
    <Table
      caption="Pools"
      empty="The server says nothing of its devices: its controller is elsewhere."
      columns={[
        { title: "of the pools", cell: ([name]: [string, unknown]) => <span className="mono">{name}</span> },
        { title: "value", wide: true, cell: ([, value]) => <span className="mono">{shown(value)}</span> },
      ]}
      rows={rows}
      id={([name]) => name}
    />
  );
}

function Jobs({ system }: { system: System }) {
  const client = useQueryClient();
  const run = (name: string): void => {
    ask("post", "/system/jobs/{name}/run", { path: { name } }).then(() => {
      say(`${name} runs`);
      void client.invalidateQueries({ queryKey: ["system"] });
    }, sayProblem);
  };
  return (
    <Table
      caption="Jobs"
      empty="There is none."
      columns={[
        { title: "job", cell: (job: Job) => job.name },
        { title: "every", number: true, cell: (job) => duration(job.every) },
        { title: "last", number: true, cell: (job) => moment(job.finished) },
        { title: "took", number: true, cell: (job) => duration(job.started && job.finished ? job.finished - job.started : null) },
        { title: "next", number: true, cell: (job) => moment(job.next) },
        { title: "result", wide: true, cell: (job) => <span className="mono">{shown(job.result ?? "–")}</span> },
        {
          title: "now",
          cell: (job) => (
            <Action why={forbidden("system", "execute")} onClick={() => run(job.name)}>
              Run
            </Action>
          ),
        },
      ]}
      rows={system.jobs}
      id={(job) => job.name}
    />
  );
}

function Server({ system }: { system: System }) {
  const { queue: _queue, pools: _pools, jobs: _jobs, ...rest } = system;
  return (
    <Table
      caption="Server"
      columns={[
        { title: "what", cell: ([name]: [string, unknown]) => <span className="mono">{name}</span> },
        { title: "value", wide: true, cell: ([, value]) => <span className="mono">{shown(value)}</span> },
      ]}
      rows={[...flat(rest)]}
      id={([name]) => name}
    />
  );
}

function Alerts() {
  const query = useQuery({
    queryKey: ["alerts"],
    queryFn: ({ signal }) => ask<{ alerts: Record<string, unknown>[] } | Record<string, unknown>[]>("get", "/system/alerts", { signal }),
    refetchInterval: 30_000,
  });
  return (
    <Shown query={query} what="the alerts">
      {(answer) => {
        const rows = rowsOf(answer, "alerts");
        if (rows.length === 0) return <Empty title="No alert">What Prometheus finds shows here, with what to do.</Empty>;
        return (
          <Table
            caption="Alerts"
            columns={[
              { title: "alert", cell: (row) => String(row.name ?? row.alertname ?? "") },
              { title: "severity", cell: (row) => String(row.severity ?? "") },
              { title: "says", wide: true, cell: (row) => String(row.summary ?? row.description ?? "") },
              { title: "since", number: true, cell: (row) => (typeof row.since === "number" ? moment(row.since) : String(row.since ?? row.started ?? "–")) },
              { title: "what to do", wide: true, cell: (row) => String(row.fix ?? row.runbook ?? row.runbook_url ?? "") },
            ]}
            rows={rows}
            id={(_, index) => index}
          />
        );
      }}
    </Shown>
  );
}
