/** Terminal colours in log lines, as spans with a class; every other control sequence is left out. */

export interface Span {
  text: string;
  classes: string;
}

const SEQUENCE = /\u001b(?:\[([0-9;:?]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
const OTHER = /[\u0000-\u0008\u000b-\u001f\u007f\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

interface Style {
  color: string;
  marks: Set<string>;
}

/** The spans of one line. What a program rewrote on the line (progress bars) is shown as it ended. */
export function spansOf(line: string): Span[] {
  const text = line.slice(line.replace(/\r+$/, "").lastIndexOf("\r") + 1);
  const style: Style = { color: "", marks: new Set() };
  const spans: Span[] = [];
  let at = 0;
  const push = (piece: string): void => {
    const clean = piece.replace(OTHER, "");
    if (clean) spans.push({ text: clean, classes: [style.color, ...style.marks].filter(Boolean).join(" ") });
  };
  for (const match of text.matchAll(SEQUENCE)) {
    push(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === "m") apply(style, match[1] ?? "");
  }
  push(text.slice(at));
  return spans;
}

const SPECIAL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** The text alone, for searching and copying. */
export const plain = (line: string): string =>
  SPECIAL.test(line) ? spansOf(line).map((span) => span.text).join("") : line;

function apply(style: Style, parameters: string): void {
  const codes = (parameters || "0").split(/[;:]/).map(Number);
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index] ?? 0;
    if (code === 0) {
      style.color = "";
      style.marks.clear();
    } else if (code === 1) style.marks.add("ansi-bold");
    else if (code === 2) style.marks.add("ansi-dim");
    else if (code === 3) style.marks.add("ansi-italic");
    else if (code === 4) style.marks.add("ansi-underline");
    else if (code === 22) ["ansi-bold", "ansi-dim"].forEach((mark) => style.marks.delete(mark));
    else if (code === 39) style.color = "";
    else if (code >= 30 && code <= 37) style.color = `ansi-${NAMES[code - 30]}`;
    else if (code >= 90 && code <= 97) style.color = `ansi-${NAMES[code - 90]}`;
    else if (code === 38 || code === 48) index += codes[index + 1] === 5 ? 2 : 4; // 256 and true colours: left as they are
  }
}
