/** Saved views: a name for what is chosen in the address. Kept in this browser. */
import { useState } from "react";

export interface View {
  name: string;
  search: string;
}

const KEY = "forge.views";

export const GIVEN: View[] = [
  { name: "All", search: "" },
  { name: "Going on", search: "state=queued,starting,running,cancelling" },
  { name: "Failed", search: "state=failed,lost" },
];

function kept(): View[] {
  try {
    const views: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(views) ? views.filter((view): view is View => typeof view?.name === "string" && typeof view?.search === "string") : [];
  } catch {
    return []; // written by something else: no view of ours is in it
  }
}

export function useViews(): { own: View[]; save: (view: View) => void; forget: (name: string) => void } {
  const [own, become] = useState(kept);
  const keep = (views: View[]): void => {
    localStorage.setItem(KEY, JSON.stringify(views));
    become(views);
  };
  return {
    own,
    save: (view) => keep([...own.filter(({ name }) => name !== view.name), view]),
    forget: (gone) => keep(own.filter(({ name }) => name !== gone)),
  };
}
