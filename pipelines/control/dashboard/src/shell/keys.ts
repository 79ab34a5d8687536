/** What a key does, anywhere on the page: one list, which the help shows. */
import { useEffect, useRef } from "react";

export interface Shortcut {
  /** As it is written for people: "j", "g r", "Ctrl K". */
  keys: string;
  what: string;
  act: () => void;
}

const shortcuts = new Map<string, Shortcut>();
let first = "";
let firstAt = 0;
const SEQUENCE_MS = 1000;

export const allShortcuts = (): Shortcut[] => [...shortcuts.values()];

/** Keys that work while a component is there. */
export function useShortcuts(list: Shortcut[]): void {
  const latest = useRef(list);
  latest.current = list;
  const names = list.map(({ keys }) => keys).join(",");
  useEffect(() => {
    latest.current.forEach((shortcut, index) => {
      shortcuts.set(shortcut.keys, { ...shortcut, act: () => latest.current[index]?.act() });
    });
    return () => names.split(",").forEach((keys) => shortcuts.delete(keys));
  }, [names]);
}

function writing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

/** Take the keys of the whole window; returns what ends it. */
export function listen(): () => void {
  const pressed = (event: KeyboardEvent): void => {
    const held = event.ctrlKey || event.metaKey;
    if (event.altKey || event.defaultPrevented) return;
    if (!held && (writing(event.target) || document.querySelector("dialog[open]"))) return;
    const name = held ? `Ctrl ${event.key.toUpperCase()}` : event.key;
    const sequence = Date.now() - firstAt < SEQUENCE_MS ? `${first} ${name}` : name;
    const found = shortcuts.get(sequence) ?? shortcuts.get(name);
    first = name;
    firstAt = Date.now();
    if (!found) return;
    event.preventDefault();
    firstAt = 0;
    found.act();
  };
  addEventListener("keydown", pressed);
  return () => removeEventListener("keydown", pressed);
}
