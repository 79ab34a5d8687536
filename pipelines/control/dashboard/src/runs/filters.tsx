import { useState } from "react";
import { Link, useSearch } from "wouter";
import { searchOf, type Choice } from "../kit/address";
import { Action } from "../kit/action";
import { Dialog } from "../kit/dialog";
import { PHASES } from "../kit/phases";
import { GIVEN, useViews } from "./views";

const STATES = ["queued", "starting", "running", "cancelling", "succeeded", "failed", "cancelled", "lost"];
const PROFILES = ["micro", "tiny", "small", "full"];

interface Props {
  choice: Choice;
  choose: (changes: Choice) => void;
}

function Select({ label, value, values, choose }: { label: string; value: string; values: readonly string[]; choose: (value: string) => void }) {
  const given = value && !values.includes(value) ? [value, ...values] : values;
  return (
    <select aria-label={label} value={value} onChange={(event) => choose(event.target.value)}>
      <option value="">{label}: any</option>
      {given.map((one) => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  );
}

/** Which runs are shown: all of it is in the address. */
export function Filters({ choice, choose }: Props) {
  return (
    <div className="row" role="search" aria-label="Runs">
      <input
        type="search"
        data-search
        className="grow"
        aria-label="Part of a run's name"
        placeholder="Part of a run's name   /"
        defaultValue={choice.q ?? ""}
        key={choice.q === undefined ? "empty" : "given"}
        onChange={(event) => choose({ q: event.target.value })}
      />
      <Select label="state" value={choice.state ?? ""} values={STATES} choose={(state) => choose({ state })} />
      <Select label="profile" value={choice.profile ?? ""} values={PROFILES} choose={(profile) => choose({ profile })} />
      <Select label="phase" value={choice.phase ?? ""} values={PHASES} choose={(phase) => choose({ phase })} />
      <Select label="target" value={choice.target ?? ""} values={["local", "kubeflow"]} choose={(target) => choose({ target })} />
      {Object.keys(choice).length > 0 && (
        <Action kind="quiet" onClick={() => choose({ q: "", state: "", profile: "", phase: "", target: "", owner: "" })}>
          Clear
        </Action>
      )}
    </div>
  );
}

export function Views({ choice }: { choice: Choice }) {
  const { own, save, forget } = useViews();
  const [naming, name] = useState(false);
  const [text, write] = useState("");
  const now = searchOf(choice);
  useSearch();
  return (
    <div className="row" role="group" aria-label="Views">
      {[...GIVEN, ...own].map((view) => (
        <span key={view.name} className="tag">
          <Link href={view.search ? `/ui/runs?${view.search}` : "/ui/runs"} aria-current={view.search === now ? "true" : undefined}>
            {view.name}
          </Link>
          {own.includes(view) && (
            <button type="button" aria-label={`Forget the view ${view.name}`} onClick={() => forget(view.name)}>
              ×
            </button>
          )}
        </span>
      ))}
      {now && ![...GIVEN, ...own].some((view) => view.search === now) && (
        <Action kind="quiet" onClick={() => name(true)}>
          Save this view
        </Action>
      )}
      {naming && (
        <Dialog title="Save this view" close={() => name(false)}>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              if (!text.trim()) return;
              save({ name: text.trim(), search: now });
              name(false);
              write("");
            }}
          >
            <label className="field">
              <span>Its name</span>
              <input autoFocus value={text} onChange={(event) => write(event.target.value)} maxLength={40} />
            </label>
            <div className="row end">
              <Action type="submit" kind="primary" why={text.trim() ? "" : "give it a name"}>
                Save
              </Action>
            </div>
          </form>
        </Dialog>
      )}
    </div>
  );
}
