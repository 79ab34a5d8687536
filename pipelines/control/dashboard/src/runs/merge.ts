/** The first page of a list anew, without reading the others again. */
import type { Page, Run } from "../api/shapes";

/** Newest first, as the server orders them. */
const before = (a: Run, b: Run): boolean => a.created > b.created || (a.created === b.created && a.id > b.id);

/**
 * Pages with a fresh first one. What it has pushed out goes to the next page; what is gone from its stretch is gone.
 * Cursors of the later pages hold: they stand behind a row, not behind a number of rows.
 */
export function withFirst(pages: Page[], fresh: Page): Page[] {
  const last = fresh.runs.at(-1);
  if (pages.length <= 1 || !last || fresh.next === null) return [fresh];
  const seen = new Set(fresh.runs.map((run) => run.id));
  const rest = pages.map((page) => ({ ...page, runs: page.runs.filter((run) => !seen.has(run.id) && before(last, run)) }));
  const [first, second, ...others] = rest as [Page, Page, ...Page[]];
  return [fresh, { ...second, runs: [...first.runs, ...second.runs] }, ...others];
}
