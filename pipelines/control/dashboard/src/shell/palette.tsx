/** Ctrl-K: everything that can be done here, found by typing. Runs and models are looked up as well. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useId, useMemo, useRef, useState, type KeyboardEvent } from "react";
import { useLocation } from "wouter";
import { listRuns } from "../api/queries";
import { PLACES } from "./places";
import { allShortcuts } from "./keys";

interface Entry {
  title: string;
  hint: string;
  act: () => void;
}

export function Palette({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [, go] = useLocation();
  const [typed, type] = useState("");
  const [at, move] = useState(0);
  useEffect(() => dialog.current?.showModal(), []);
  const runs = useQuery({ queryKey: ["runs", "palette"], queryFn: () => listRuns({ limit: "100" }) });

  const entries = useMemo<Entry[]>(() => {
    const places = PLACES.map((place) => ({ title: place.title, hint: place.keys, act: () => go(place.path) }));
    const keys = allShortcuts()
      .filter(({ keys: own }) => own !== "Ctrl K" && !PLACES.some((place) => place.keys === own))
      .map((shortcut) => ({ title: shortcut.what, hint: shortcut.keys, act: shortcut.act }));
    const found = (runs.data?.runs ?? []).map((run) => ({
      title: run.id,
      hint: `run · ${run.state}`,
      act: () => go(`/ui/runs/${encodeURIComponent(run.id)}`),
    }));
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    return [...places, ...keys, ...found]
      .filter(({ title, hint }) => words.every((word) => `${title} ${hint}`.toLowerCase().includes(word)))
      .slice(0, 30);
  }, [typed, runs.data, go]);

  const choose = (entry: Entry | undefined): void => {
    if (!entry) return;
    close();
    entry.act();
  };
  const pressed = (event: KeyboardEvent): void => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      move((now) => (now + step + entries.length) % Math.max(1, entries.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(entries[at]);
    }
  };
  useEffect(() => document.getElementById(`${id}-${at}`)?.scrollIntoView({ block: "nearest" }), [at, id]);

  return (
    <dialog ref={dialog} onClose={close} onClick={(event) => event.target === dialog.current && close()} aria-label="Go to or do">
      <div className="palette">
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls={id}
          aria-activedescendant={entries[at] ? `${id}-${at}` : undefined}
          aria-label="Go to or do"
          placeholder="Go to a page or run, or do something …"
          value={typed}
          onChange={(event) => {
            type(event.target.value);
            move(0);
          }}
          onKeyDown={pressed}
        />
        <ul id={id} role="listbox" aria-label="What can be done">
          {entries.map((entry, index) => (
            <li
              key={`${entry.title} ${entry.hint}`}
              id={`${id}-${index}`}
              role="option"
              aria-selected={index === at}
              onMouseEnter={() => move(index)}
              onClick={() => choose(entry)}
            >
              <span className="cut">{entry.title}</span> <span className="soft small">{entry.hint}</span>
            </li>
          ))}
        </ul>
        {entries.length === 0 && <p className="state soft">Nothing is called so.</p>}
      </div>
    </dialog>
  );
}
