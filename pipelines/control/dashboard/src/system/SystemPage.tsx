/** The server itself: what waits, what it has, its jobs, alerts, keys and audit. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "wouter";
import { ask } from "../api/client";
import type { components } from "../api/openapi";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { useChoice } from "../kit/address";
import { State } from "../kit/badge";
import { flat, shown } from "../kit/flat";
import { Empty, Shown } from "../kit/states";
import { Table } from "../kit/table";
import { Tabs } from "../kit/tabs";
import { bytes, duration, moment } from "../kit/time";
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

type System = components["schemas"]["Overview"];
type Job = components["schemas"]["JobState"];
type Controller = components["schemas"]["ControllerState"];
type Alert = components["schemas"]["Alert"];
type Alerts = components["schemas"]["Alerts"];

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

function Queue({ system }: { system: System }) {
  if (system.queue.length === 0) return <Empty title="Nothing waits">A run that waits says here for what.</Empty>;
  return (
    <Table
      caption="Queue"
      columns={[
        { title: "next", number: true, cell: (row) => row.position },
        { title: "run", cell: (row) => <Link href={`/ui/runs/${encodeURIComponent(row.id)}`}>{row.id}</Link> },
        { title: "by", cell: (row) => row.owner_name || "–" },
        { title: "priority", number: true, cell: (row) => row.priority },
        { title: "waits for", wide: true, cell: (row) => row.why },
        { title: "has waited", number: true, cell: (row) => duration(row.waited) },
        { title: "wants", number: true, cell: (row) => [row.gpus > 0 && `${row.gpus} GPU`, bytes(row.memory_bytes)].filter(Boolean).join(", ") },
      ]}
      rows={system.queue}
      id={(row) => row.id}
    />
  );
}

function Pools({ system }: { system: System }) {
  if (system.pools.length === 0) {
    return <Empty title="No controller has said anything">Start one beside the GPUs: forge control --role controller. Runs wait until then.</Empty>;
  }
  return (
    <>
      {system.pools.map((controller: Controller) => (
        <section key={controller.name} className="card stack">
          <h2>
            {controller.host} <span className="soft">{controller.name}</span>
          </h2>
          <p className={controller.alive ? "good-text" : "bad-text"}>{controller.alive ? "alive" : `last heard of ${moment(controller.seen)}`}</p>
          <Table
            caption={`Pools of ${controller.name}`}
            columns={[
              { title: "what", cell: ([name]: [string, unknown]) => <span className="mono">{name}</span> },
              { title: "value", wide: true, cell: ([name, value]) => <span className="mono">{amountOf(name, value)}</span> },
            ]}
            rows={[...flat(controller.pools)]}
            id={([name]) => name}
          />
        </section>
      ))}
    </>
  );
}

/** Names say their unit. */
const amountOf = (name: string, value: unknown): string => (name.includes("bytes") && typeof value === "number" ? bytes(value) : shown(value));

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
        { title: "job", cell: (job: Job) => <span title={job.summary}>{job.name}</span> },
        { title: "every", number: true, cell: (job) => duration(job.every) },
        { title: "last", number: true, cell: (job) => moment(job.finished) },
        { title: "took", number: true, cell: (job) => duration(job.started && job.finished ? job.finished - job.started : null) },
        { title: "next", number: true, cell: (job) => (job.running ? "now" : moment(job.next)) },
        { title: "result", wide: true, cell: (job) => <span className="mono">{shown(job.result ?? "–")}</span> },
        {
          title: "now",
          cell: (job) => (
            <Action why={forbidden("system", "execute") || (job.running ? "it runs" : "")} onClick={() => run(job.name)}>
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
        { title: "value", wide: true, cell: ([name, value]) => <span className="mono">{amountOf(name, value)}</span> },
      ]}
      rows={[...flat(rest)]}
      id={([name]) => name}
    />
  );
}

function Alerts() {
  const query = useQuery({
    queryKey: ["alerts"],
    queryFn: ({ signal }) => ask<Alerts>("get", "/system/alerts", { signal }),
    refetchInterval: 30_000,
  });
  return (
    <Shown query={query} what="the alerts">
      {({ alerts, hold }) => (
        <>
          {hold && (
            <p className="notice">
              New runs wait until {moment(hold.until)} at the longest: {hold.why}
            </p>
          )}
          {alerts.length === 0 ? (
            <Empty title="No alert">What is wrong shows here, with what to do.</Empty>
          ) : (
            <Table
              caption="Alerts"
              columns={[
                { title: "state", cell: (alert: Alert) => <State state={alert.state === "firing" ? "error" : "done"} word={alert.state} /> },
                { title: "severity", cell: (alert) => alert.severity },
                { title: "alert", cell: (alert) => alert.name },
                { title: "says", wide: true, cell: (alert) => alert.summary },
                { title: "of", wide: true, cell: (alert) => Object.entries(alert.labels).map(([name, value]) => `${name} ${value}`).join(", ") },
                { title: "since", number: true, cell: (alert) => moment(alert.since) },
                { title: "what to do", wide: true, cell: (alert) => (/^https?:/.test(alert.runbook) ? <a href={alert.runbook}>runbook</a> : alert.runbook) },
              ]}
              rows={alerts}
              id={(alert) => `${alert.name} ${JSON.stringify(alert.labels)}`}
            />
          )}
        </>
      )}
    </Shown>
  );
}
