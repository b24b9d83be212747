// What the form asks for, as the body of a request and as code for other places.
import { type Text, t } from "../../i18n";

/** The fields of numbers, with what they are called and how they step. */
export const NUMBERS = [
  { name: "max_tokens", step: 1 },
  { name: "temperature", step: 0.1 },
  { name: "top_p", step: 0.05 },
  { name: "top_k", step: 1 },
  { name: "min_p", step: 0.05 },
  { name: "seed", step: 1 },
  { name: "presence_penalty", step: 0.1 },
  { name: "frequency_penalty", step: 0.1 },
  { name: "repetition_penalty", step: 0.1 },
] as const;

export const EFFORTS = ["", "none", "minimal", "low", "medium", "high"] as const;
export type Form = "text" | "json" | "schema";

/** What stands in the form, as typed; empty: the model's default. */
export interface Fields {
  models: [string, string];
  system: string;
  numbers: Record<string, string>;
  stop: string;
  effort: string;
  form: Form;
  schema: string;
  tools: string;
  more: string;
}

export const EMPTY: Fields = {
  models: ["", ""],
  system: "",
  numbers: {},
  stop: "",
  effort: "",
  form: "text",
  schema: "",
  tools: "",
  more: "",
};

export interface Message {
  role: string;
  content: string;
}

/** The body of a chat. Throws: Error, naming the field that is no JSON. */
export function body(fields: Fields, messages: Message[]): Record<string, unknown> {
  const system: Message[] = fields.system.trim() ? [{ role: "system", content: fields.system }] : [];
  const found: Record<string, unknown> = { messages: [...system, ...messages] };
  for (const { name } of NUMBERS) if (fields.numbers[name]?.trim()) found[name] = Number(fields.numbers[name]);
  const stops = fields.stop.split("\n").filter(Boolean);
  if (stops.length) found.stop = stops;
  if (fields.effort) found.reasoning_effort = fields.effort;
  if (fields.form === "json") found.response_format = { type: "json_object" };
  if (fields.form === "schema") {
    const schema = parsed("play.schema", fields.schema || "{}");
    found.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  }
  if (fields.tools.trim()) found.tools = parsed("play.tools", fields.tools);
  return { ...found, ...(fields.more.trim() ? (parsed("play.more", fields.more) as object) : {}) };
}

function parsed(field: Text, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(t("play.badJson", { field: t(field), why: (error as Error).message }));
  }
}

/** The request for a terminal. The key is not known here, and must not be. */
export function curl(model: string, request: Record<string, unknown>): string {
  const text = JSON.stringify({ model, ...request, stream: true }, null, 2).replaceAll("'", "'\\''");
  return `curl -N ${base()}/chat/completions \\
  -H "Authorization: Bearer $HEADRACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${text}'`;
}

/** Fields that OpenAI's SDK has no parameter for. */
const EXTRA = ["top_k", "min_p", "repetition_penalty"];

/** The request for OpenAI's SDK. */
export function python(model: string, request: Record<string, unknown>): string {
  const own = Object.entries(request).filter(([name]) => !EXTRA.includes(name));
  const extra = Object.entries(request).filter(([name]) => EXTRA.includes(name));
  const lines = [["model", model] as const, ...own].map(([name, value]) => `    ${name}=${literal(value)},`);
  if (extra.length) lines.push(`    extra_body=${literal(Object.fromEntries(extra))},`);
  return `import os

from openai import OpenAI

client = OpenAI(base_url=${literal(base())}, api_key=os.environ["HEADRACE_API_KEY"])
stream = client.chat.completions.create(
${lines.join("\n")}
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`;
}

function literal(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
}

function base(): string {
  return new URL("v1", document.baseURI).href;
}
