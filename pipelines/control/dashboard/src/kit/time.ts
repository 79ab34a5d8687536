/** Times and amounts as people read them. */

const UNITS: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** 95 → "1 min 35 s". */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  let rest = Math.round(seconds);
  const parts: string[] = [];
  for (const [size, unit] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) parts.push(`${count} ${unit}`);
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** The hour and minute here; with the day where it is another. */
export function moment(seconds: number | null | undefined, now = Date.now()): string {
  if (!seconds) return "–";
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  if (date.toDateString() === new Date(now).toDateString()) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

/** Exactly, for a title. */
export const exactly = (seconds: number | null | undefined): string =>
  seconds ? new Date(seconds * 1000).toISOString().replace("T", " ").replace("Z", " UTC") : "";

export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) return "–";
  if (count < 1000) return `${count} B`;
  const power = Math.min(4, Math.floor(Math.log10(count) / 3));
  return `${Number((count / 1000 ** power).toPrecision(3))} ${["", "kB", "MB", "GB", "TB"][power]}`;
}

export function amount(count: number | null | undefined): string {
  if (count === null || count === undefined) return "–";
  if (Math.abs(count) < 10_000) return String(count);
  const power = Math.min(3, Math.floor(Math.log10(Math.abs(count)) / 3));
  return `${Number((count / 1000 ** power).toPrecision(3))}${["", "k", "M", "G"][power]}`;
}

/** A measured value: four digits that count. */
export function figure(value: unknown): string {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (!Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export const percent = (share: number): string => `${Math.round(100 * share)} %`;

/** A share of items answered right, with its interval where there is one. */
export const score = (value: number | null | undefined, low?: number, high?: number): string =>
  value === null || value === undefined ? "–" : low === undefined || high === undefined ? value.toFixed(3) : `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
