/** Every setting of the chosen phases as a field: what the profile says stands in it until something is written. */
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { getEffective, getSchemas, valuesOf } from "../api/config.queries";
import { shown } from "../kit/flat";
import { Shown } from "../kit/states";
import { fieldsOf, overrideOf, wrongWith, type Field } from "./schema";

interface Props {
  profile: string;
  phases: readonly string[];
  /** Overrides by the name of their setting. */
  changed: Record<string, string>;
  change: (changed: Record<string, string>) => void;
}

export function SettingsForm({ profile, phases, changed, change }: Props) {
  const [text, search] = useState("");
  const [texts, write] = useState<Record<string, string>>({});
  const schemas = useQuery({ queryKey: ["schemas"], queryFn: ({ signal }) => getSchemas(signal), staleTime: Infinity });
  const values = useQuery({ queryKey: ["profile", profile], queryFn: ({ signal }) => getEffective(profile, [], signal), staleTime: 300_000 });
  const effective = useMemo(() => (values.data ? valuesOf(values.data) : new Map<string, unknown>()), [values.data]);
  const put = (field: Field, value: string): void => {
    write((old) => ({ ...old, [field.name]: value }));
    const { [field.name]: _, ...rest } = changed;
    change(value === "" || wrongWith(field, value) ? rest : { ...rest, [field.name]: overrideOf(field, value) });
  };
  const count = Object.keys(changed).length;
  return (
    <section className="card stack" aria-label="Settings">
      <div className="row spread">
        <h2>Settings {count > 0 && <span className="soft">{count} changed</span>}</h2>
        <input type="search" data-search aria-label="Find a setting" placeholder="Find a setting   /" value={text} onChange={(event) => search(event.target.value)} />
      </div>
      <Shown query={schemas} what="the settings">
        {(answer) => (
          <>
            {phases.map((phase) => {
              const schema = answer.phases[phase];
              if (!schema) return null;
              const fields = fieldsOf(phase, schema).filter((field) => `${field.name} ${field.description}`.toLowerCase().includes(text.toLowerCase()));
              if (fields.length === 0) return null;
              const own = Object.keys(changed).filter((name) => name.startsWith(`${phase}.`)).length;
              return (
                <details key={phase} open={text !== ""}>
                  <summary>
                    {phase} <span className="soft">{fields.length} settings{own ? `, ${own} changed` : ""}</span>
                  </summary>
                  <div className="fields settings">
                    {fields.map((field) => (
                      <Setting key={field.name} field={field} text={texts[field.name] ?? ""} given={effective.get(field.name) ?? field.default} put={put} />
                    ))}
                  </div>
                </details>
              );
            })}
          </>
        )}
      </Shown>
    </section>
  );
}

function Setting({ field, text, given, put }: { field: Field; text: string; given: unknown; put: (field: Field, text: string) => void }) {
  const wrong = wrongWith(field, text);
  const label = field.name.split(".").slice(1).join(".");
  const note = wrong || field.description;
  return (
    <label className="field" title={field.description}>
      <span className="cut">
        <b>{label}</b> {note && <span className={wrong ? "bad-text" : undefined}>{note}</span>}
      </span>
      {field.kind === "boolean" || field.kind === "choice" ? (
        <select value={text} onChange={(event) => put(field, event.target.value)}>
          <option value="">{shown(given)} (profile)</option>
          {(field.kind === "boolean" ? ["true", "false"] : field.choices).map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : (
        <input
          inputMode={field.kind === "number" || field.kind === "integer" ? "decimal" : "text"}
          value={text}
          placeholder={shown(given).slice(0, 120)}
          aria-invalid={wrong ? true : undefined}
          spellCheck={false}
          onChange={(event) => put(field, event.target.value)}
        />
      )}
    </label>
  );
}
