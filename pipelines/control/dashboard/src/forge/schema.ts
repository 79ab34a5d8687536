/** A phase's JSON Schema as rows of a form: one field a setting, by its full name. */
import type { Schema } from "../api/config.queries";

export type Kind = "number" | "integer" | "boolean" | "text" | "choice" | "value";

export interface Field {
  /** `bitnet.steps`. */
  name: string;
  description: string;
  kind: Kind;
  choices: string[];
  minimum?: number;
  maximum?: number;
  optional: boolean;
  default: unknown;
}

const DEEP = 6;

/** The fields of a schema, in its order. What is neither a value nor an object of values is one field of JSON. */
export function fieldsOf(name: string, schema: Schema): Field[] {
  const definitions = schema.$defs ?? {};
  const walk = (at: string, given: Schema, depth: number): Field[] => {
    const { own, optional } = resolved(given, definitions);
    if (own.properties && depth < DEEP) {
      return Object.entries(own.properties).flatMap(([key, inner]) => walk(`${at}.${key}`, inner, depth + 1));
    }
    return [fieldOf(at, own, given, optional)];
  };
  return walk(name, schema, 0);
}

function resolved(schema: Schema, definitions: Record<string, Schema>): { own: Schema; optional: boolean } {
  let own = schema;
  let optional = false;
  for (let hops = 0; hops < 8; hops += 1) {
    const alternatives = own.anyOf?.filter((one) => one.type !== "null") ?? [];
    if (own.$ref) own = { ...definitions[own.$ref.split("/").at(-1) ?? ""], ...without(own, "$ref") };
    else if (own.allOf?.length === 1) own = { ...own.allOf[0], ...without(own, "allOf") };
    else if (own.anyOf && alternatives.length === 1) {
      optional ||= alternatives.length < own.anyOf.length;
      own = { ...alternatives[0], ...without(own, "anyOf") };
    } else break;
  }
  return { own, optional };
}

function without(schema: Schema, key: keyof Schema): Schema {
  const { [key]: _, ...rest } = schema;
  return rest;
}

function fieldOf(name: string, own: Schema, given: Schema, optional: boolean): Field {
  const type = Array.isArray(own.type) ? own.type.find((one) => one !== "null") : own.type;
  const choices = own.enum ?? (own.const !== undefined ? [own.const] : []);
  const kind: Kind = choices.length
    ? "choice"
    : type === "integer" || type === "number" || type === "boolean"
      ? type
      : type === "string"
        ? "text"
        : "value";
  return {
    name,
    description: given.description ?? own.description ?? "",
    kind,
    choices: choices.map(String),
    minimum: own.minimum ?? own.exclusiveMinimum,
    maximum: own.maximum ?? own.exclusiveMaximum,
    optional: optional || (Array.isArray(own.type) && own.type.includes("null")),
    default: given.default ?? own.default,
  };
}

/** What is wrong with what was written into a field; empty where nothing is. The server has the last word. */
export function wrongWith(field: Field, text: string): string {
  if (text === "") return "";
  if (field.kind === "number" || field.kind === "integer") {
    const value = Number(text);
    if (!Number.isFinite(value)) return "it is no number";
    if (field.kind === "integer" && !Number.isInteger(value)) return "it is no whole number";
    if (field.minimum !== undefined && value < field.minimum) return `${field.minimum} at least`;
    if (field.maximum !== undefined && value > field.maximum) return `${field.maximum} at most`;
  }
  return "";
}

/** What was written, as an override of Hydra's grammar. */
export function overrideOf(field: Field, text: string): string {
  if (field.kind !== "text" && field.kind !== "choice") return `${field.name}=${text}`;
  const quoted = /^[\w.:/+-]+$/.test(text) ? text : `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  return `${field.name}=${quoted}`;
}
