/** Dark or light: as the system says, until somebody says otherwise here. */
import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark";

const KEY = "forge.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function chosen(): Theme {
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") return kept;
  return system.matches ? "dark" : "light";
}

function show(): void {
  document.documentElement.dataset.theme = chosen();
  listeners.forEach((listener) => listener());
}

/** Begin: before anything is drawn. */
export function startTheme(): void {
  system.addEventListener("change", show);
  show();
}

export function toggleTheme(): void {
  const next: Theme = chosen() === "dark" ? "light" : "dark";
  if ((next === "dark") === system.matches) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  show();
}

export const useTheme = (): Theme =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    chosen,
  );
