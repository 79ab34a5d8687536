/** Lines of a log: which level they are of, and which hold a text. */
import { plain } from "../kit/ansi";

export interface Line {
  n: number;
  text: string;
  level?: string;
}

export const LEVELS = ["error", "warning", "info", "debug"] as const;

const SIGNS: [string, RegExp][] = [
  ["error", /\b(error|critical|fatal|traceback|exception)\b/i],
  ["warning", /\bwarn(ing)?\b/i],
  ["debug", /\bdebug\b/i],
];

const known = new WeakMap<Line, string>();

/** What the server says of a line; where it says nothing, what the line says of itself. */
export function levelOf(line: Line): string {
  if (line.level) return line.level;
  let level = known.get(line);
  if (level === undefined) {
    level = SIGNS.find(([, sign]) => sign.test(line.text.slice(0, 300)))?.[0] ?? "info";
    known.set(line, level);
  }
  return level;
}

/** The numbers of the lines that hold a text, without regard to case and colours. */
export function matching(lines: readonly Line[], text: string): Set<number> {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return new Set();
  return new Set(lines.filter((line) => plain(line.text).toLowerCase().includes(wanted)).map((line) => line.n));
}
