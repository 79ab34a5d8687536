/** What the run was given: what differs from its profile, and all of it. */
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { getEffective, valuesOf } from "../api/config.queries";
import type { RunDetail } from "../api/shapes";
import { differences, flat, shown } from "../kit/flat";
import { Shown } from "../kit/states";
import { Table } from "../kit/table";

/** The settings of the phases among the pipeline's parameters: `<phase>_settings`. */
function settingsOf(parameters: Record<string, unknown>): Map<string, unknown> {
  const all = new Map<string, unknown>();
  for (const [name, value] of Object.entries(parameters)) {
    if (!name.endsWith("_settings")) continue;
    const phase = name.replace(/_settings$/, "");
    for (const [key, one] of flat(value)) if (key.startsWith(`${phase}.`)) all.set(key, one);
  }
  return all;
}

export default function Settings({ run }: { run: RunDetail }) {
  const [text, search] = useState("");
  const query = useQuery({
    queryKey: ["profile", run.profile],
    queryFn: ({ signal }) => getEffective(run.profile, [], signal),
    enabled: Boolean(run.profile),
    staleTime: 300_000,
  });
  const own = useMemo(() => settingsOf(run.parameters), [run.parameters]);
  const rows = [...own, ...flat(run.parameters)].filter(([name]) => !name.includes("_settings") && name.toLowerCase().includes(text.toLowerCase()));
  return (
    <>
      <section className="stack">
        <h2>Difference to the profile {run.profile}</h2>
        {run.profile ? (
          <Shown query={query} what="the profile">
            {(profile) => {
              const phases = new Set([...own.keys()].map((name) => name.split(".")[0]));
              const before = new Map([...valuesOf(profile)].filter(([name]) => phases.has(name.split(".")[0])));
              return (
                <Table
                  caption="Settings that differ"
                  empty="None: the run was given what the profile says."
                  columns={[
                    { title: "setting", cell: (row) => <span className="mono">{row.name}</span> },
                    { title: "profile", wide: true, cell: (row) => <span className="mono">{shown(row.before)}</span> },
                    { title: "run", wide: true, cell: (row) => <span className="mono">{shown(row.after)}</span> },
                  ]}
                  rows={differences(before, own)}
                  id={(row) => row.name}
                />
              );
            }}
          </Shown>
        ) : (
          <p className="soft">The run names no profile.</p>
        )}
      </section>
      <section className="stack">
        <div className="row spread">
          <h2>All settings</h2>
          <input type="search" data-search aria-label="Find a setting" placeholder="Find a setting   /" value={text} onChange={(event) => search(event.target.value)} />
        </div>
        <Table
          caption="All settings"
          empty="None fits."
          columns={[
            { title: "setting", cell: ([name]: [string, unknown]) => <span className="mono">{name}</span> },
            { title: "value", wide: true, cell: ([, value]) => <span className="mono">{shown(value)}</span> },
          ]}
          rows={rows.slice(0, 1000)}
          id={([name]) => name}
        />
        <details>
          <summary>What was asked for</summary>
          <pre tabIndex={0}>{JSON.stringify(run.request, null, 1)}</pre>
        </details>
        <p className="soft small">
          Folder <span className="mono">{run.folder || "–"}</span> · artifacts <span className="mono">{run.root || "–"}</span>
        </p>
      </section>
    </>
  );
}
