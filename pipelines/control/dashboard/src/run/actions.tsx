/** What can be done with a run; each says why not. Shown as done at once, and taken back where the server refuses. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation } from "wouter";
import { Problem } from "../api/problem";
import { actOnRun, deleteRun, pinRun } from "../api/queries";
import { forbidden } from "../api/session";
import type { ActionName, RunDetail } from "../api/shapes";
import { Action } from "../kit/action";
import { Confirm, Dialog } from "../kit/dialog";
import { PHASES } from "../kit/phases";
import { say, sayProblem } from "../kit/toast";
import { useShortcuts } from "../shell/keys";

const EXPECTED: Partial<Record<ActionName, RunDetail["state"]>> = { cancel: "cancelling", resume: "queued", retry: "queued", rerun: "queued" };

type Doing = { action: "cancel" | "resume" | "retry" } | { action: "rerun"; phase: string };

export function RunActions({ run }: { run: RunDetail }) {
  const client = useQueryClient();
  const [, go] = useLocation();
  const [open, show] = useState<"" | "cancel" | "delete" | "rerun">("");
  const key = ["run", run.id];

  const act = useMutation({
    mutationFn: (doing: Doing) => actOnRun(run, doing.action, doing.action === "rerun" ? { phase: doing.phase } : {}),
    onMutate: (doing) => {
      const before = client.getQueryData<RunDetail>(key);
      const state = EXPECTED[doing.action];
      if (before && state) client.setQueryData<RunDetail>(key, { ...before, state, actions: {} });
      return { before };
    },
    onError: (error, _, context) => {
      client.setQueryData(key, context?.before);
      if (error instanceof Problem && error.status === 412) say("it had changed meanwhile: this is how it is now; try again", true);
      else sayProblem(error);
    },
    onSettled: () => client.invalidateQueries({ queryKey: key }),
  });
  const remove = useMutation({
    mutationFn: () => deleteRun(run),
    onSuccess: () => {
      say(`${run.id} is deleted`);
      go("/ui/runs");
    },
    onError: sayProblem,
  });
  const pin = useMutation({
    mutationFn: (pinned: boolean) => pinRun(run, pinned),
    onMutate: (pinned) => {
      const before = client.getQueryData<RunDetail>(key);
      if (before) client.setQueryData<RunDetail>(key, { ...before, pinned });
      return { before };
    },
    onError: (error, _, context) => {
      client.setQueryData(key, context?.before);
      sayProblem(error);
    },
    onSettled: () => client.invalidateQueries({ queryKey: key }),
  });

  const why = (action: ActionName): string => {
    const allowed = run.actions[action];
    if (!allowed) return "the server is being asked";
    return allowed.allowed ? "" : allowed.why || "not now";
  };
  useShortcuts([
    { keys: "C", what: "Cancel the run", act: () => !why("cancel") && show("cancel") },
    { keys: "R", what: "Resume the run", act: () => !why("resume") && act.mutate({ action: "resume" }) },
  ]);
  return (
    <div className="row" role="group" aria-label="Actions">
      <Action why={why("cancel")} onClick={() => show("cancel")}>
        Cancel
      </Action>
      <Action why={why("resume")} onClick={() => act.mutate({ action: "resume" })}>
        Resume
      </Action>
      <Action why={why("retry")} onClick={() => act.mutate({ action: "retry" })}>
        Retry
      </Action>
      <Action why={why("rerun")} onClick={() => show("rerun")}>
        Rerun from …
      </Action>
      <Action why={forbidden("phases", "execute", run.owner)} onClick={() => pin.mutate(!run.pinned)} aria-pressed={run.pinned}>
        {run.pinned ? "Pinned" : "Pin"}
      </Action>
      <Action kind="danger" why={why("delete")} onClick={() => show("delete")}>
        Delete
      </Action>
      {open === "cancel" && (
        <Confirm title="Cancel this run" name={run.id} verb="Cancel the run" close={() => show("")} confirmed={() => act.mutate({ action: "cancel" })}>
          <p>Its tasks write their checkpoints and end. What is done stays; it can be resumed.</p>
        </Confirm>
      )}
      {open === "delete" && (
        <Confirm title="Delete this run" name={run.id} verb="Delete it" close={() => show("")} confirmed={() => remove.mutate()}>
          <p>Its folder, events and logs go, and its models in the catalogue; artifacts that it has put into a store stay there. This cannot be undone.</p>
        </Confirm>
      )}
      {open === "rerun" && <Rerun run={run} close={() => show("")} chosen={(phase) => act.mutate({ action: "rerun", phase })} />}
    </div>
  );
}

function Rerun({ run, close, chosen }: { run: RunDetail; close: () => void; chosen: (phase: string) => void }) {
  const known = PHASES.filter((phase) => run.phases[phase]);
  const [phase, choose] = useState<string>(known.find((name) => run.phases[name]?.state === "failed") ?? known[0] ?? "");
  return (
    <Dialog title="Rerun from a phase" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          chosen(phase);
          close();
        }}
      >
        <p>The phases before it keep what they made; it and those behind it run again.</p>
        <label className="field">
          <span>Phase</span>
          <select value={phase} onChange={(event) => choose(event.target.value)}>
            {known.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <div className="row end">
          <Action onClick={close}>Leave it</Action>
          <Action type="submit" kind="primary" why={phase ? "" : "it has no phase yet"}>
            Rerun
          </Action>
        </div>
      </form>
    </Dialog>
  );
}
