// What the form asks for, as the body of a request, and the plan that the server makes of it.
import { signal } from "@preact/signals";
import { ApiError, post } from "../../api";
import { reasonOf } from "../../session";
import type { LocalModel } from "../overview/cluster";

/** The fields of numbers; empty: the default. */
export const NUMBERS = ["max_batch_size", "context_length", "tensor_parallel_size", "idle_unload_s"] as const;
export const QUANTIZATIONS = ["", "none", "bf16", "int8", "int4"] as const;
export const SWITCHES = ["use_flash_attention", "use_kv_cache", "cpu_offload"] as const;

export interface Fields {
  model: string;
  quantization: string;
  /** Nodes, devices as `node.device`, or labels; none: where most memory is free. */
  targets: string[];
  replicas: string;
  numbers: Record<string, string>;
  switches: Record<string, boolean>;
}

export const EMPTY: Fields = {
  model: "",
  quantization: "",
  targets: [],
  replicas: "",
  numbers: {},
  switches: { use_flash_attention: true, use_kv_cache: true, cpu_offload: false },
};

/** What a deployment takes of one device, in bytes. */
export interface DevicePlan {
  weights_bytes: number;
  kv_cache_bytes: number;
  workspace_bytes: number;
  loading_bytes: number;
  total_bytes: number;
  free_bytes: number;
  fits: boolean;
}

/** Other options that would fit. */
export interface Alternative {
  change: Record<string, unknown>;
  total_bytes: number;
}

export interface Plan {
  /** Null: the size of the model is not known yet. */
  fits: boolean | null;
  memory_plan: Record<string, DevicePlan | null>;
  effective_config: Record<string, unknown>;
  warnings: string[];
  alternatives: Alternative[];
}

export const fields = signal<Fields>(EMPTY);
export const plan = signal<Plan | null>(null);
/** Why there is no plan; empty: there is one, or it is being made. */
export const wrong = signal("");

export function change(part: Partial<Fields>): void {
  fields.value = { ...fields.value, ...part };
}

/** Another model begins with defaults, on the same devices. */
export function choose(model: string): void {
  fields.value = { ...EMPTY, model, targets: fields.value.targets };
}

export function body(found: Fields): Record<string, unknown> {
  const numbers = Object.entries(found.numbers).filter(([, text]) => text.trim());
  return {
    model_type: found.model,
    quantization: found.quantization || null,
    target_nodes: found.targets,
    replicas: found.replicas.trim() ? Number(found.replicas) : null,
    deployment_config: {
      ...Object.fromEntries(numbers.map(([name, text]) => [name, Number(text)])),
      ...found.switches,
    },
  };
}

/** Asks what the form would take. Loads nothing. */
export async function makePlan(): Promise<void> {
  const found = fields.value;
  if (!found.model) return;
  try {
    const made = await post<Plan>("models/local/deploy", { ...body(found), dry_run: true });
    if (found !== fields.value) return;
    plan.value = made;
    wrong.value = "";
  } catch (error) {
    if (found !== fields.value) return;
    plan.value = null;
    wrong.value = told(error);
  }
}

/** Why a deployment was refused; what is wrong with which field, if that is it. */
export function told(error: unknown): string {
  const flaws = error instanceof ApiError ? error.details.errors : undefined;
  if (!flaws) return reasonOf(error);
  const lines = Object.entries(flaws as Record<string, string[]>).map(([name, texts]) => `${name}: ${texts.join(" ")}`);
  return lines.join("\n");
}

/** Takes over what would fit. */
export function take({ change: other }: Alternative): void {
  const found = { ...fields.value, numbers: { ...fields.value.numbers }, switches: { ...fields.value.switches } };
  for (const [name, value] of Object.entries(other)) {
    if (name === "target_nodes") found.targets = value as string[];
    else if (name === "quantization") found.quantization = value as string;
    else if (name in EMPTY.switches) found.switches[name] = value as boolean;
    else found.numbers[name] = String(value);
  }
  fields.value = found;
}

/** Fills the form with what a model runs with, so that another deployment replaces it by the same. */
export function fill({ id, replicas }: LocalModel): void {
  const config = replicas[0].deployment_config ?? {};
  const numbers = NUMBERS.filter((name) => name in config).map((name) => [name, String(config[name])]);
  const switches = SWITCHES.filter((name) => name in config).map((name) => [name, config[name]]);
  fields.value = {
    ...EMPTY,
    model: id,
    quantization: QUANTIZATIONS.find((one) => one === replicas[0].quantization) ?? "",
    targets: [...new Set(replicas.map((one) => `${one.node_id}.${one.device}`))],
    replicas: String(replicas.length),
    numbers: Object.fromEntries(numbers) as Record<string, string>,
    switches: { ...EMPTY.switches, ...Object.fromEntries(switches) },
  };
}
