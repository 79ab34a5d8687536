/** Where the nodes of a graph without circles stand: each behind its parents, with few crossings. */

interface Node {
  digest: string;
  parents: string[];
}

export interface Place {
  layer: number;
  row: number;
}

export function layersOf(nodes: readonly Node[]): Map<string, Place> {
  const known = new Map(nodes.map((node) => [node.digest, node]));
  const depth = new Map<string, number>();
  const depthOf = (digest: string, seen: ReadonlySet<string>): number => {
    const found = depth.get(digest);
    if (found !== undefined) return found;
    const parents = (known.get(digest)?.parents ?? []).filter((parent) => known.has(parent) && !seen.has(parent));
    const own = parents.length ? 1 + Math.max(...parents.map((parent) => depthOf(parent, new Set([...seen, digest])))) : 0;
    depth.set(digest, own);
    return own;
  };
  const layers: string[][] = [];
  for (const node of nodes) (layers[depthOf(node.digest, new Set())] ??= []).push(node.digest);
  const places = new Map<string, Place>();
  for (const [layer, digests] of layers.entries()) {
    const middle = (digest: string): number => {
      const rows = (known.get(digest)?.parents ?? []).map((parent) => places.get(parent)?.row).filter((row) => row !== undefined);
      return rows.length ? rows.reduce((sum, row) => sum + row, 0) / rows.length : 0;
    };
    const order = [...digests].sort((a, b) => middle(a) - middle(b));
    order.forEach((digest, row) => places.set(digest, { layer, row }));
  }
  return places;
}
