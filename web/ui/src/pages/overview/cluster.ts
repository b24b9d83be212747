// The state of the whole gateway, followed while somebody looks, and its figures of the last minutes.
import { signal } from "@preact/signals";
import { follow } from "../../live";
import { may, reasonOf } from "../../session";
import type { History } from "./history";

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
  history: History;
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

/** Between two samples. */
const EVERY_MS = 2000;
/** Samples that are kept at most: more than there are between two points. */
const KEPT = 60;

export const cluster = signal<Cluster | null>(null);
/** This page's own since the server's last point. */
export const samples = signal<Sample[]>([]);
/** Why the last look failed; empty: it did not. */
export const stale = signal("");

/** Follows it until the returned function is called. */
export function watch(): () => void {
  if (!may("deploy")) return () => undefined;
  const paths = ["models/local", "queue", "nodes", "health/ready", "history"];
  const following = follow<[{ models: LocalModel[] }, { models: Queue[] }, { nodes: Node[] }, Ready, History]>(
    paths,
    ({ models }, { models: queues }, { nodes }, ready, history) => {
      cluster.value = { models, queues, nodes, ready, history };
      stale.value = "";
    },
    (error) => (stale.value = reasonOf(error)),
  );
  const timer = setInterval(remember, EVERY_MS);
  return () => {
    clearInterval(timer);
    following.stop();
  };
}

function remember(): void {
  if (!cluster.value || stale.value || document.hidden) return;
  const { models, queues } = cluster.value;
  const sample = {
    at: Date.now() / 1000,
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
