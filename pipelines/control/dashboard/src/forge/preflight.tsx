import { useQuery } from "@tanstack/react-query";
import { getDoctor } from "../api/config.queries";
import { Shown } from "../kit/states";

interface Check {
  name: string;
  passed: boolean;
  says: string;
  fix: string;
}

/** The server's checks, whatever they are called in its answer. */
export function checksOf(answer: Record<string, unknown>): Check[] {
  const list = (answer.checks ?? answer.results ?? []) as Record<string, unknown>[];
  return list.map((check) => ({
    name: String(check.name ?? check.check ?? ""),
    passed: check.passed === true || check.ok === true || check.state === "ok" || check.status === "ok",
    says: String(check.says ?? check.detail ?? check.what ?? check.message ?? ""),
    fix: String(check.fix ?? ""),
  }));
}

/** Whether this machine is fit for a run. */
export function Preflight() {
  const query = useQuery({ queryKey: ["doctor"], queryFn: ({ signal }) => getDoctor(signal), staleTime: 60_000 });
  return (
    <section className="card stack" aria-label="Preflight">
      <h2>Preflight</h2>
      <Shown query={query} what="what the machine is fit for">
        {(answer) => {
          const checks = checksOf(answer);
          const bad = checks.filter((check) => !check.passed);
          return (
            <>
              <p className={bad.length ? "warn-text" : "good-text"}>
                {bad.length ? `${bad.length} of ${checks.length} checks ask for something` : `All ${checks.length} checks pass`}
              </p>
              <ul className="checks">
                {[...bad, ...checks.filter((check) => check.passed)].map((check) => (
                  <li key={check.name}>
                    <span className={check.passed ? "good-text" : "warn-text"} aria-hidden="true">
                      {check.passed ? "✓" : "!"}
                    </span>{" "}
                    <b>{check.name}</b> <span className="soft">{check.says}</span>
                    {!check.passed && check.fix && <span> – {check.fix}</span>}
                  </li>
                ))}
              </ul>
            </>
          );
        }}
      </Shown>
    </section>
  );
}
