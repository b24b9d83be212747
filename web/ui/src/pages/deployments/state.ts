// All deployments, what runs and where something could, followed while somebody looks; and what is done to them.
import { signal } from "@preact/signals";
import { get, modelPath, post } from "../../api";
import { follow, type Following } from "../../live";
import { may, reasonOf } from "../../session";
import type { LocalModel, Node } from "../overview/cluster";

export interface Failure {
  reason: string;
  message: string;
  remedy?: string;
}

export interface Summary {
  deployment_id: string;
  model_id: string;
  /** pending, in_progress, cancelling, completed, failed or cancelled. */
  status: string;
  created_at: string;
  finished_at: string | null;
  error: Failure | null;
  /** Null once it has ended. */
  progress: number | null;
  current_stage: string | null;
}

export interface CatalogModel {
  id: string;
  status: string;
  provider: string;
  deployment?: object;
}

export interface Seen {
  deployments: Summary[];
  /** The local ones of the catalog. */
  models: CatalogModel[];
  resident: LocalModel[];
  nodes: Node[];
}

export const seen = signal<Seen | null>(null);
/** Why the last look failed; empty: it did not. */
export const stale = signal("");
/** The deployment that is shown. */
export const selected = signal("");
/** Why the last thing that was asked for was refused; empty: it was not. */
export const refused = signal("");

export function hasEnded({ status }: { status: string }): boolean {
  return ["completed", "failed", "cancelled"].includes(status);
}

let following: Following | null = null;

/** Follows it until the returned function is called. */
export function watch(): () => void {
  if (!may("deploy")) return () => undefined;
  const paths = ["models/local/deployments", "models", "models/local", "nodes"];
  following = follow<
    [{ deployments: Summary[] }, { models: CatalogModel[] }, { models: LocalModel[] }, { nodes: Node[] }]
  >(
    paths,
    ({ deployments }, { models }, { models: resident }, { nodes }) => {
      if (!seen.value) selected.value ||= deployments.find((one) => !hasEnded(one))?.deployment_id ?? "";
      seen.value = { deployments, models: models.filter((one) => one.deployment), resident, nodes };
      stale.value = "";
    },
    (error) => (stale.value = reasonOf(error)),
  );
  return following.stop;
}

/** Has the server say all of it now. */
export const look = () => following?.again();

/** Begins a deployment, and shows it. Throws: ApiError. */
export async function deploy(body: object): Promise<void> {
  const begun = await post<{ deployment_id: string }>("models/local/deploy", body);
  selected.value = begun.deployment_id;
  look();
}

export function scale(model: string, replicas: number): Promise<void> {
  return act(async () => {
    const begun = await post<{ deployment_id: string }>(modelPath(`local/${model}`), { replicas }, "PATCH");
    selected.value = begun.deployment_id;
  });
}

export function unload(model: string): Promise<void> {
  return act(() => get(modelPath(`local/${model}`), { method: "DELETE" }));
}

export function cancel(deployment: string): Promise<void> {
  return act(() => get(`models/local/deployments/${deployment}`, { method: "DELETE" }));
}

async function act(what: () => Promise<unknown>): Promise<void> {
  try {
    await what();
    refused.value = "";
  } catch (error) {
    refused.value = reasonOf(error);
  }
  look();
}
