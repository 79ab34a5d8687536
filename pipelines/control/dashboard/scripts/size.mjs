// The built page may weigh so much, gzipped: what the first rows need, and all of it.
import { readFileSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMITS = { first: 180_000, all: 420_000 };
const dist = new URL("../dist/", import.meta.url);
const weight = (file) => gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length;
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", dist), "utf8"));
const first = new Set();
const take = (key) => {
  const chunk = manifest[key];
  if (!chunk || first.has(chunk.file)) return;
  [chunk.file, ...(chunk.css ?? [])].forEach((file) => first.add(file));
  (chunk.imports ?? []).forEach(take);
};
["index.html", "src/runs/RunsPage.tsx"].forEach(take);
const sum = (files) => files.reduce((total, file) => total + weight(file), 0);
const all = readdirSync(new URL("assets/", dist)).filter((name) => /\.(js|css)$/.test(name)).map((name) => `assets/${name}`);
const sizes = { first: sum([...first]), all: sum(all) };
console.log(JSON.stringify({ ...sizes, limits: LIMITS, files: all.length }));
if (sizes.first > LIMITS.first || sizes.all > LIMITS.all) {
  console.error("the page has become too heavy: import what only one page needs where it is needed");
  process.exit(1);
}
