// What can be done to a job.
import { get, post } from "../../api";
import { may, reasonOf } from "../../session";

export const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

interface Standing {
  status: string;
  kind: string;
}

export function mayCancel({ status }: Standing): boolean {
  return !ENDED.has(status) && status !== "cancelling";
}

/** Jobs that run no model can't be asked again. */
export function mayReplay({ kind }: Standing): boolean {
  return may("inference") && kind !== "deployment" && kind !== "addition";
}

type Fail = (text: string) => void;

/** Cancels a job; `fail` is told why it can't be. */
export async function cancel(id: string, fail: Fail): Promise<void> {
  await tried(get(path(id), { method: "DELETE" }), fail);
}

/** Asks the same again. The id of the new job, or undefined where `fail` was told why not. */
export async function replay(id: string, fail: Fail): Promise<string | undefined> {
  return (await tried(post<{ job_id: string }>(`${path(id)}/replay`, {}), fail))?.job_id;
}

function path(id: string): string {
  return `jobs/${encodeURIComponent(id)}`;
}

async function tried<T>(request: Promise<T>, fail: Fail): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    fail(reasonOf(error));
    return undefined;
  }
}
