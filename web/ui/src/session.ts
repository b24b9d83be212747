// Who has signed in. The key itself is sent once and never kept: a cookie that no script can read stands for it.
import { signal } from "@preact/signals";
import { ApiError, get, post } from "./api";
import { t } from "./i18n";

export interface Key {
  id: string;
  name: string;
  prefix: string;
  scopes: string[];
}

interface Session {
  version: string;
  key: Key | null;
}

/** undefined: not known yet; null: nobody. */
export const key = signal<Key | null | undefined>(undefined);
export const version = signal("");
/** Why somebody has to sign in, when that is not the first time. */
export const reason = signal("");

/** Asks the server who has signed in. */
export async function load(): Promise<void> {
  try {
    take(await get<Session>("dashboard/session"));
  } catch (error) {
    end(error instanceof ApiError ? error.message : String(error));
  }
}

/** Throws: ApiError. */
export async function signIn(secret: string): Promise<void> {
  take(await post<Session>("dashboard/session", { key: secret }));
}

export async function signOut(): Promise<void> {
  await get("dashboard/session", { method: "DELETE" }).catch(() => undefined);
  location.reload();
}

/** What an answer with 401 means: the session is over. */
export function noticed(error: unknown): void {
  if (error instanceof ApiError && error.status === 401) end(error.message);
}

/** Why a request failed, for people. */
export function reasonOf(error: unknown): string {
  noticed(error);
  return error instanceof ApiError && error.status ? error.message : t("unreachable");
}

/** Whether the key has a scope; `admin` has them all. */
export function may(scope: string): boolean {
  return !!key.value && (key.value.scopes.includes(scope) || key.value.scopes.includes("admin"));
}

function take(session: Session): void {
  version.value = session.version;
  reason.value = "";
  key.value = session.key;
}

function end(why: string): void {
  reason.value = why;
  key.value = null;
}
