// API keys as the API has them, and what can be done to them.
import { get, post } from "../../api";

export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  status: string;
  scopes: string[];
  models: string[];
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  weight: number;
  created_at: string;
  expires_at: string | null;
  old_secret_until: string | null;
  remaining_requests: number | null;
  remaining_tokens: number | null;
}

export const SCOPES = ["inference", "deploy", "metrics", "admin"] as const;

/** What a form says of a key; null: no limit, never. */
export interface Wanted {
  name: string;
  scopes: string[];
  models: string[];
  requests_per_minute: number | null;
  tokens_per_minute: number | null;
  weight: number;
  expires_at: string | null;
}

const NEW: Wanted = {
  name: "",
  scopes: ["inference"],
  models: [],
  requests_per_minute: null,
  tokens_per_minute: null,
  weight: 1,
  expires_at: null,
};

export function wanted(key: ApiKey | null): Wanted {
  const from: Wanted = key ?? NEW;
  return Object.fromEntries(Object.keys(NEW).map((name) => [name, from[name as keyof Wanted]])) as unknown as Wanted;
}

/** Makes a key. Its secret, which is never told again. Throws: ApiError. */
export async function make(body: Wanted): Promise<string> {
  return (await post<{ secret: string }>("keys", body)).secret;
}

/** Changes what is not as it was. Throws: ApiError. */
export async function update(key: ApiKey, body: Wanted): Promise<void> {
  const before = wanted(key);
  const changed = Object.entries(body).filter(([name, value]) => {
    return name !== "scopes" && JSON.stringify(value) !== JSON.stringify(before[name as keyof Wanted]);
  });
  if (!changed.length) return;
  const headers = { "Content-Type": "application/json" };
  await get(`keys/${key.id}`, { method: "PATCH", headers, body: JSON.stringify(Object.fromEntries(changed)) });
}

/** Another secret; the present one holds for so many seconds more. Throws: ApiError. */
export async function rotate(key: ApiKey, graceS: number): Promise<string> {
  return (await post<{ secret: string }>(`keys/${key.id}/rotate`, { grace_s: graceS })).secret;
}

/** Throws: ApiError. */
export async function revoke(key: ApiKey): Promise<void> {
  await get(`keys/${key.id}`, { method: "DELETE" });
}
