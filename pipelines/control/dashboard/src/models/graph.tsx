/** Lineage as a drawing: parents left of their children, layer by layer; and the same as a table. */
import { useMemo, useState } from "react";
import { Link } from "wouter";
import { Action } from "../kit/action";
import { Table } from "../kit/table";
import { layersOf } from "./layers";

export interface Node {
  digest: string;
  label: string;
  detail: string;
  parents: string[];
  href: string;
}

const WIDTH = 172;
const HEIGHT = 42;
const ACROSS = 214;
const DOWN = 54;

export function Graph({ title, nodes, here }: { title: string; nodes: Node[]; here: string }) {
  const [asTable, showTable] = useState(false);
  const places = useMemo(() => layersOf(nodes), [nodes]);
  const columns = Math.max(...[...places.values()].map(({ layer }) => layer)) + 1;
  const rows = Math.max(...[...places.values()].map(({ row }) => row)) + 1;
  const known = new Map(nodes.map((node) => [node.digest, node]));
  const width = columns * ACROSS;
  const height = rows * DOWN + 8;
  return (
    <figure className="card chart" aria-label={title}>
      <div className="head">
        <h2>
          {title} <span className="soft">from left to right</span>
        </h2>
        <Action kind="quiet" className="small" aria-pressed={asTable} onClick={() => showTable(!asTable)}>
          {asTable ? "show as drawing" : "show as table"}
        </Action>
      </div>
      {asTable ? (
        <Table
          caption={title}
          columns={[
            { title: "artifact", cell: (node: Node) => <Link href={node.href}>{node.label}</Link> },
            { title: "digest", cell: (node) => <span className="mono">{node.digest.slice(0, 12)}</span> },
            { title: "phase", cell: (node) => node.detail },
            { title: "made from", wide: true, cell: (node) => node.parents.map((parent) => known.get(parent)?.label ?? parent.slice(0, 12)).join(", ") || "–" },
          ]}
          rows={nodes}
          id={(node) => node.digest}
        />
      ) : (
        <div className="scroll" tabIndex={0} role="region" aria-label={`${title}, drawn`}>
          <svg className="drawing lineage" viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="group" aria-label={title}>
            {nodes.flatMap((node) =>
              node.parents.map((parent) => {
                const from = places.get(parent);
                const to = places.get(node.digest);
                if (!from || !to) return null;
                const [x1, y1] = [from.layer * ACROSS + WIDTH, from.row * DOWN + HEIGHT / 2 + 4];
                const [x2, y2] = [to.layer * ACROSS, to.row * DOWN + HEIGHT / 2 + 4];
                return <path key={`${parent} ${node.digest}`} className="edge" d={`M${x1} ${y1}C${x1 + 24} ${y1} ${x2 - 24} ${y2} ${x2} ${y2}`} />;
              }),
            )}
            {nodes.map((node) => {
              const place = places.get(node.digest);
              if (!place) return null;
              return (
                <Link key={node.digest} href={node.href} aria-label={`${node.label}, ${node.detail}, ${node.digest.slice(0, 8)}`}>
                  <g className={node.digest === here ? "node here" : "node"} transform={`translate(${place.layer * ACROSS} ${place.row * DOWN + 4})`}>
                    <rect width={WIDTH} height={HEIGHT} rx="6" />
                    <text x="10" y="17">
                      {node.label.length > 26 ? `…${node.label.slice(-25)}` : node.label}
                    </text>
                    <text className="soft" x="10" y="33">
                      {node.detail} · {node.digest.slice(0, 8)}
                    </text>
                  </g>
                </Link>
              );
            })}
          </svg>
        </div>
      )}
    </figure>
  );
}
