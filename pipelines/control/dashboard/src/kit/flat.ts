/** Nested settings as flat rows: `training.stages.0.steps`. */
export function flat(value: unknown, name = ""): Map<string, unknown> {
  const rows = new Map<string, unknown>();
  const walk = (one: unknown, at: string): void => {
    const nested = settingsOf(one);
    if (nested && typeof nested === "object" && Object.keys(nested).length > 0) {
      for (const [key, inner] of Object.entries(nested)) walk(inner, at ? `${at}.${key}` : key);
    } else rows.set(at, one);
  };
  walk(value, name);
  return rows;
}

/** A text that holds JSON (a phase's settings travel so through a pipeline) is what it holds. */
function settingsOf(value: unknown): unknown {
  if (typeof value !== "string" || !/^[[{]/.test(value)) return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value; // a text that only looks like it
  }
}

export interface Difference {
  name: string;
  before: unknown;
  after: unknown;
}

/** The names whose values differ; what only one side has counts. */
export function differences(before: Map<string, unknown>, after: Map<string, unknown>): Difference[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names
    .map((name) => ({ name, before: before.get(name), after: after.get(name) }))
    .filter((row) => JSON.stringify(row.before) !== JSON.stringify(row.after));
}

export const shown = (value: unknown): string => (value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));
