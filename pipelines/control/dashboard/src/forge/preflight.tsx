import { useQuery } from "@tanstack/react-query";
import { getDoctor } from "../api/config.queries";
import { Shown } from "../kit/states";

const SIGNS: Record<string, string> = { ok: "✓", warn: "!", fail: "✕" };
const TONES: Record<string, string> = { ok: "good-text", warn: "warn-text", fail: "bad-text" };
const ORDER = ["fail", "warn", "ok"];

/** Whether this machine is fit for a run. */
export function Preflight() {
  const query = useQuery({ queryKey: ["doctor"], queryFn: ({ signal }) => getDoctor(signal), staleTime: 60_000 });
  return (
    <section className="card stack" aria-label="Preflight">
      <h2>Preflight</h2>
      <Shown query={query} what="what the machine is fit for">
        {({ healthy, findings }) => {
          const open = findings.filter((finding) => finding.verdict !== "ok");
          return (
            <>
              <p className={healthy ? "good-text" : "bad-text"}>
                {healthy ? "A run can start here" : "A run would fail here"}
                {open.length > 0 && `; ${open.length} of ${findings.length} findings ask for something`}
              </p>
              <details open={!healthy}>
                <summary>{findings.length} findings</summary>
                <ul className="checks">
                  {[...findings]
                    .sort((a, b) => ORDER.indexOf(a.verdict) - ORDER.indexOf(b.verdict))
                    .map(({ verdict, what, found, fix }) => (
                      <li key={what}>
                        <span className={TONES[verdict]}>
                          <span aria-hidden="true">{SIGNS[verdict]}</span> <b>{what}</b>
                        </span>{" "}
                        <span className="soft">{found}</span>
                        {verdict !== "ok" && fix && <span> – {fix}</span>}
                      </li>
                    ))}
                </ul>
              </details>
            </>
          );
        }}
      </Shown>
    </section>
  );
}
