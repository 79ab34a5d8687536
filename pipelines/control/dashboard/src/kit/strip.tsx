import type { PhaseStrip } from "../api/shapes";
import { PHASES, SIGNS, toneOf } from "./phases";
import { duration, percent } from "./time";

/** What a phase is at, in a few words. */
export function inWords(name: string, phase: PhaseStrip | undefined): string {
  if (!phase) return `${name}: not yet`;
  const share = toneOf(phase.state) === "busy" && phase.share !== undefined ? ` ${percent(phase.share)}` : "";
  const again = (phase.attempts ?? 0) > 1 ? `, attempt ${phase.attempts}` : "";
  return `${name}: ${phase.state}${share}${again}`;
}

/** How full a bar is. */
function filled(phase: PhaseStrip | undefined): number {
  if (!phase) return 0;
  return toneOf(phase.state) === "busy" ? Math.max(0.06, phase.share ?? 0) : 1;
}

function Bar({ phase }: { phase: PhaseStrip | undefined }) {
  return (
    <svg className="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect width={100 * filled(phase)} height="6" />
    </svg>
  );
}

/** The eight phases in a row of the list. */
export function Strip({ phases }: { phases: Record<string, PhaseStrip> }) {
  return (
    <ul className="strip" aria-label="phases">
      {PHASES.map((name) => (
        <li key={name} className={toneOf(phases[name]?.state ?? "pending")} title={inWords(name, phases[name])}>
          <Bar phase={phases[name]} />
          <span className="unseen">{inWords(name, phases[name])}</span>
        </li>
      ))}
    </ul>
  );
}

/** The eight phases large, with stage, step and the time left: how a run goes. */
export function PhaseMonitor({ phases }: { phases: Record<string, PhaseStrip> }) {
  return (
    <ol className="strip large" aria-label="phases">
      {PHASES.map((name, index) => {
        const phase = phases[name];
        const tone = toneOf(phase?.state ?? "pending");
        return (
          <li key={name} className={tone} aria-current={tone === "busy" ? "step" : undefined}>
            <b>
              <span className="soft">{index + 1}</span> {name}
            </b>
            <Bar phase={phase} />
            <span className="soft">
              <span aria-hidden="true">{SIGNS[tone]} </span>
              {phase?.state ?? "not asked for"}
              {tone === "busy" && phase?.share !== undefined && ` · ${percent(phase.share)}`}
              {(phase?.attempts ?? 0) > 1 && ` · attempt ${phase?.attempts}`}
            </span>
            {tone === "busy" && phase?.stage && (
              <span className="soft" title={phase.stage}>
                {phase.stage}
                {phase.total ? ` ${phase.step ?? 0}/${phase.total}` : ""}
              </span>
            )}
            {tone === "busy" && Boolean(phase?.eta) && <span className="soft">{duration(phase?.eta)} left</span>}
          </li>
        );
      })}
    </ol>
  );
}
