// The state of the whole gateway, asked for while somebody looks, and its figures of the last minutes.
import { signal } from "@preact/signals";
import { get } from "../../api";
import { repeat } from "../../live";
import { may, reasonOf } from "../../session";

export interface Replica {
  replica_id: string;
  node_id: string;
  device: string;
  engine: string;
  quantization: string;
  status: string;
  health: string;
  memory_bytes: number;
  planned_bytes: number | null;
  sequences: number;
  kv_used_tokens: number;
  tokens_per_second: number;
  effective_config: { max_batch_size?: number; kv_capacity_tokens?: number };
  /** What a deployment would have to ask for; null: it is to end. */
  deployment_config: Record<string, unknown> | null;
}

export interface LocalModel {
  id: string;
  name: string;
  status: string;
  performance: { tokens_per_second: number; avg_latency_ms: number | null; max_batch_size: number };
  replicas: Replica[];
}

export interface Waiting {
  waiting: number;
  oldest_wait_s: number;
  /** When a request that comes now would begin; null: nobody can tell. */
  eta_s: number | null;
}

export interface Queue {
  id: string;
  interactive: Waiting;
  background: Waiting;
  replicas: number;
  slots: number;
  running: number;
}

export interface Device {
  device: string;
  state: string;
  alive: boolean;
  hardware: string;
  memory_bytes: number;
  memory_free_bytes: number;
  engines: string[];
}

export interface Node {
  name: string;
  state: string;
  version: string;
  last_seen: string;
  labels: Record<string, string>;
  devices: Device[];
  replicas: { replica_id: string; model_id: string; device: string; status: string; sequences: number }[];
}

export interface Ready {
  status: string;
  redis: string;
  durability: string;
  keeper: string;
  keeper_round_s: number;
  providers: Record<string, string>;
  catalog: string;
  catalog_problems: string[];
}

export interface Cluster {
  models: LocalModel[];
  queues: Queue[];
  nodes: Node[];
  ready: Ready;
}

/** What the plots show of one moment: seconds since the epoch, and what was then. */
export interface Sample {
  at: number;
  tokens: number;
  running: number;
  slots: number;
  interactive: number;
  background: number;
}

const EVERY_MS = 2000;
/** Looks that are kept at most: more than there are between two points. */
const KEPT = 60;

export const cluster = signal<Cluster | null>(null);
/** This page's own looks since the server's last point. */
export const samples = signal<Sample[]>([]);
/** Why the last look failed; empty: it did not. */
export const stale = signal("");

/** Looks again and again until the returned function is called. */
export const watch = () => repeat(look, EVERY_MS);

async function look(): Promise<void> {
  if (!may("deploy")) return;
  try {
    const [{ models }, { models: queues }, { nodes }, ready] = await Promise.all([
      get<{ models: LocalModel[] }>("models/local"),
      get<{ models: Queue[] }>("queue"),
      get<{ nodes: Node[] }>("nodes"),
      readiness(),
    ]);
    cluster.value = { models, queues, nodes, ready };
    stale.value = "";
    remember(models, queues);
  } catch (error) {
    stale.value = reasonOf(error);
  }
}

/** A gateway that is not ready says so with 503, and the same data. */
async function readiness(): Promise<Ready> {
  const response = await fetch("health/ready");
  return ((await response.json()) as { data: Ready }).data;
}

function remember(models: LocalModel[], queues: Queue[]): void {
  const at = Date.now() / 1000;
  const sample = {
    at,
    tokens: sum(models, (model) => model.performance.tokens_per_second),
    running: sum(queues, (queue) => queue.running),
    slots: sum(queues, (queue) => queue.slots),
    interactive: sum(queues, (queue) => queue.interactive.waiting),
    background: sum(queues, (queue) => queue.background.waiting),
  };
  samples.value = [...samples.value, sample].slice(-KEPT);
}

export function sum<T>(list: readonly T[], of: (one: T) => number): number {
  return list.reduce((total, one) => total + of(one), 0);
}
