/** A new run: what to forge, with which settings; whether the machine is fit; what would be done; and start. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState, type ReactNode } from "react";
import { useLocation } from "wouter";
import { getProfiles } from "../api/config.queries";
import { forbidden } from "../api/session";
import { Action } from "../kit/action";
import { PHASES } from "../kit/phases";
import { Trouble } from "../kit/states";
import { say } from "../kit/toast";
import { useShortcuts } from "../shell/keys";
import { planOf, start, type Asked } from "./api";
import { PlanShown } from "./plan";
import { Preflight } from "./preflight";
import { SettingsForm } from "./settings";

const GIVEN = ["micro", "tiny", "small", "full"];
const EMPTY: Asked = {
  start_phase: PHASES[0], end_phase: PHASES[7], without: [], profile: "tiny", seed: null, overrides: [], base_models: [],
  artifacts: [], name: "", target: "local", priority: 0, slots: 0, cache: true,
};

/** A key that stands for one request: sent again after a lost answer it makes no second run. */
const keyFor = (): string => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;

const words = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);

export default function AgentForgeControl() {
  const [, go] = useLocation();
  const client = useQueryClient();
  const [asked, become] = useState<Asked>(EMPTY);
  const [settings, set] = useState<Record<string, string>>({});
  const [free, write] = useState("");
  const [keyed, rekey] = useState({ body: "", key: "" });
  const profiles = useQuery({ queryKey: ["profiles"], queryFn: ({ signal }) => getProfiles(signal), staleTime: 300_000 });
  const change = (next: Partial<Asked>): void => become((old) => ({ ...old, ...next }));
  const whole = useMemo<Asked>(
    () => ({ ...asked, overrides: [...Object.values(settings), ...free.split("\n").map((line) => line.trim()).filter(Boolean)] }),
    [asked, settings, free],
  );
  const planning = useMutation({ mutationFn: () => planOf(whole) });
  const starting = useMutation({
    mutationFn: () => {
      const body = JSON.stringify(whole);
      const key = keyed.body === body ? keyed.key : keyFor();
      rekey({ body, key });
      return start(whole, key);
    },
    onSuccess: ({ run_id: run }) => {
      say(`${run} is queued`);
      void client.invalidateQueries({ queryKey: ["runs"] });
      go(`/ui/runs/${encodeURIComponent(run)}`);
    },
  });
  const first = PHASES.indexOf(asked.start_phase);
  const last = PHASES.indexOf(asked.end_phase);
  const chosen = PHASES.slice(first, last + 1);
  const why = forbidden("phases", "execute") || (first > last ? "the first phase comes after the last one" : "");
  useShortcuts([
    { keys: "p", what: "Plan the run", act: () => !why && planning.mutate() },
  ]);
  const names = profiles.data?.profiles.map(({ name }) => name) ?? GIVEN;
  return (
    <>
      <div className="row spread">
        <h1>New run</h1>
        <div className="row">
          <Action why={why || (planning.isPending ? "it is being planned" : "")} onClick={() => planning.mutate()} title="Plan the run (p)">
            Plan
          </Action>
          <Action kind="primary" why={why || (starting.isPending ? "it is being started" : "")} onClick={() => starting.mutate()}>
            Start
          </Action>
        </div>
      </div>
      {starting.error && <Trouble error={starting.error} />}
      {planning.error && <Trouble error={planning.error} />}
      <section className="card fields" aria-label="What to forge">
        <Field label="Profile">
          <select value={asked.profile} onChange={(event) => change({ profile: event.target.value })}>
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </Field>
        <Field label="From phase">
          <select value={asked.start_phase} onChange={(event) => change({ start_phase: event.target.value as Asked["start_phase"] })}>
            {PHASES.map((phase) => (
              <option key={phase}>{phase}</option>
            ))}
          </select>
        </Field>
        <Field label="To phase">
          <select value={asked.end_phase} onChange={(event) => change({ end_phase: event.target.value as Asked["end_phase"] })}>
            {PHASES.map((phase) => (
              <option key={phase}>{phase}</option>
            ))}
          </select>
        </Field>
        <Field label="Seed">
          <input type="number" min={0} placeholder="of the profile" value={asked.seed ?? ""} onChange={(event) => change({ seed: event.target.value === "" ? null : Number(event.target.value) })} />
        </Field>
        <Field label="Name">
          <input value={asked.name} placeholder="time and profile" pattern="[A-Za-z0-9_][A-Za-z0-9_.\-]*" onChange={(event) => change({ name: event.target.value })} />
        </Field>
        <Field label="Where">
          <select value={asked.target} onChange={(event) => change({ target: event.target.value as Asked["target"] })}>
            <option value="local">this server</option>
            <option value="kubeflow">Kubeflow</option>
          </select>
        </Field>
        {first === 0 ? (
          <Field label="Base models: standard, memory, reasoning, digests or addresses">
            <input value={asked.base_models.join(" ")} placeholder="all three variants" onChange={(event) => change({ base_models: words(event.target.value) })} />
          </Field>
        ) : (
          <Field label={`What ${asked.start_phase} starts with: digests or addresses`}>
            <input value={asked.artifacts.join(" ")} onChange={(event) => change({ artifacts: words(event.target.value) })} />
          </Field>
        )}
        <Field label="Priority: the higher the sooner">
          <input type="number" min={-10} max={10} value={asked.priority} onChange={(event) => change({ priority: Number(event.target.value) })} />
        </Field>
        <Field label="Tasks at the same time: 0 for as many as fit">
          <input type="number" min={0} max={256} value={asked.slots} onChange={(event) => change({ slots: Number(event.target.value) })} />
        </Field>
        <label className="check">
          <input type="checkbox" checked={asked.cache} onChange={(event) => change({ cache: event.target.checked })} /> take what earlier runs made of the same
        </label>
      </section>
      {chosen.length > 2 && (
        <fieldset className="card row">
          <legend className="soft small">Leave out</legend>
          {chosen.slice(1, -1).map((phase) => (
            <label key={phase} className="check">
              <input
                type="checkbox"
                checked={asked.without.includes(phase)}
                onChange={(event) => change({ without: event.target.checked ? [...asked.without, phase] : asked.without.filter((other) => other !== phase) })}
              />
              {phase}
            </label>
          ))}
        </fieldset>
      )}
      {planning.data && <PlanShown plan={planning.data} />}
      <Preflight />
      <SettingsForm profile={asked.profile} phases={chosen.filter((phase) => !asked.without.includes(phase))} changed={settings} change={set} />
      <details className="card">
        <summary>More overrides, one a line</summary>
        <label className="field">
          <span>phase.key=value</span>
          <textarea rows={4} className="mono" value={free} onChange={(event) => write(event.target.value)} spellCheck={false} />
        </label>
      </details>
    </>
  );
}

function Field({ label, children }: { label: string; children: ReactNode }) {
  return (
    <label className="field">
      <span>{label}</span>
      {children}
    </label>
  );
}
