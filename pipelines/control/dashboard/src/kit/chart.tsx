/** A chart of lines, and the same as a table. Loaded only by the pages that draw. */
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { Action } from "./action";
import { Table } from "./table";
import { thin } from "./thin";
import { amount, figure } from "./time";
import { useTheme } from "../shell/theme";

export interface Line {
  name: string;
  xs: number[];
  ys: (number | null)[];
  /** Points alone, for scattered values. */
  dots?: boolean;
  dashed?: boolean;
}

interface Props {
  title: string;
  x: string;
  y: string;
  lines: Line[];
  /** Where values should lie. */
  band?: [number, number];
  height?: number;
  clock?: boolean;
}

const COLOURS = 8;
const POINTS = 2000;

/** All lines on one x axis, as uPlot wants them: null where a line has no point. */
export function joined(lines: Line[]): [number[], (number | null | undefined)[][]] {
  const xs = [...new Set(lines.flatMap((line) => line.xs))].sort((a, b) => a - b);
  const at = new Map(xs.map((x, index) => [x, index]));
  const rows = lines.map((line) => {
    const row: (number | null | undefined)[] = Array.from({ length: xs.length });
    line.xs.forEach((x, index) => {
      row[at.get(x) as number] = line.ys[index] ?? null;
    });
    return row;
  });
  return [xs, rows];
}

export function Chart({ title, x, y, lines, band, height = 210, clock = false }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [asTable, showTable] = useState(false);
  const theme = useTheme();
  const thinned = useMemo(
    () => lines.map((line) => ({ ...line, ...(([xs, ys]) => ({ xs, ys }))(thin(line.xs, line.ys, POINTS)) })),
    [lines],
  );
  const shape = JSON.stringify([thinned.map(({ name, dots, dashed }) => [name, dots, dashed]), band, theme, clock, height]);
  const data = useMemo(() => {
    const [xs, rows] = joined(thinned);
    return [xs, ...rows] as uPlot.AlignedData;
  }, [thinned]);
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const element = holder.current;
    if (!element || asTable) return undefined;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, font: "11px system-ui" };
    const options: uPlot.Options = {
      width: element.clientWidth || 300,
      height,
      legend: { show: false },
      scales: { x: { time: clock }, y: { range: (_, low, high) => rangeOf(low, high, band) } },
      axes: [{ ...axis, size: 30 }, { ...axis, size: 54, values: (_, ticks) => ticks.map((tick) => (Math.abs(tick) >= 10_000 ? amount(tick) : figure(tick))) }],
      cursor: { points: { size: 6 }, drag: { x: true, y: false } },
      series: [
        {},
        ...thinned.map((line, index) => ({
          label: line.name,
          stroke: colour(`--c${(index % COLOURS) + 1}`),
          width: line.dots ? 0 : 1.5,
          spanGaps: true,
          ...(line.dashed && { dash: [5, 4] }),
          points: { show: line.dots || line.xs.length < 40, size: line.dots ? 6 : 4, fill: colour(`--c${(index % COLOURS) + 1}`) },
        })),
      ],
      hooks: { drawClear: band ? [(self) => paintBand(self, band, colour("--good-wash"))] : [] },
    };
    const drawn = new uPlot(options, latest.current, element);
    plot.current = drawn;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) drawn.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [shape, asTable]);

  useEffect(() => plot.current?.setData(data), [data]);

  return (
    <figure className="card chart" aria-label={title}>
      <div className="head">
        <h2>
          {title} <span className="soft">{y}</span>
        </h2>
        <Action kind="quiet" className="small" aria-pressed={asTable} onClick={() => showTable(!asTable)}>
          {asTable ? "show as chart" : "show as table"}
        </Action>
      </div>
      {asTable ? <Values title={title} x={x} lines={thinned} /> : <div className="plot" ref={holder} role="img" aria-label={inWords(title, lines)} />}
      <ul className="legend">
        {lines.map((line, index) => (
          <li key={line.name}>
            <svg viewBox="0 0 12 8" className={`c${(index % COLOURS) + 1}`} aria-hidden="true">
              <path d="M0 4h12" stroke="currentColor" strokeWidth="3" strokeDasharray={line.dashed ? "3 2" : undefined} />
            </svg>
            {line.name} <span className="soft n">{figure(line.ys.findLast((value) => value !== null))}</span>
          </li>
        ))}
        {band && <li className="soft">band {band.map(figure).join(" – ")}</li>}
      </ul>
    </figure>
  );
}

function inWords(title: string, lines: Line[]): string {
  const last = lines.slice(0, 4).map((line) => `${line.name} ends at ${figure(line.ys.findLast((value) => value !== null))}`);
  return `${title}: ${last.join(", ") || "no values yet"}. The values are in the table.`;
}

/** From the lowest to the highest value, the band included, and a little more; a flat line has room on both sides. */
export function rangeOf(low: number | null, high: number | null, band?: [number, number]): [number, number] {
  const from = Math.min(low ?? 0, band?.[0] ?? Infinity);
  const to = Math.max(high ?? 1, band?.[1] ?? -Infinity);
  const room = (to - from || Math.abs(to) || 1) * 0.06;
  return [from - room, to + room];
}

function paintBand(self: uPlot, [low, high]: [number, number], colour: string): void {
  const { left, width } = self.bbox;
  const top = self.valToPos(high, "y", true);
  const bottom = self.valToPos(low, "y", true);
  self.ctx.save();
  self.ctx.fillStyle = colour;
  self.ctx.fillRect(left, top, width, bottom - top);
  self.ctx.restore();
}

const ROWS = 200;

function Values({ title, x, lines }: { title: string; x: string; lines: Line[] }) {
  const [xs, rows] = joined(lines);
  const from = Math.max(0, xs.length - ROWS);
  return (
    <>
      {from > 0 && <p className="soft small">The last {ROWS} of {xs.length} points.</p>}
      <Table
        caption={`${title}, as a table`}
        columns={[
          { title: x, number: true, cell: (index: number) => figure(xs[index]) },
          ...lines.map((line, row) => ({ title: line.name, number: true, cell: (index: number) => figure(rows[row]?.[index]) })),
        ]}
        rows={xs.map((_, index) => index).slice(from)}
        id={(index) => index}
      />
    </>
  );
}
