/** Where one can go, and the keys that lead there. */
export const PLACES = [
  { path: "/ui/runs", title: "Runs", keys: "g r" },
  { path: "/ui/compare", title: "Compare", keys: "g c" },
  { path: "/ui/models", title: "Models", keys: "g m" },
  { path: "/ui/new", title: "New run", keys: "g n" },
  { path: "/ui/playground", title: "Playground", keys: "g p" },
  { path: "/ui/system", title: "System", keys: "g s" },
] as const;
