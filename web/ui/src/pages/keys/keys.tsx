// API keys and what they have used. An admin manages them all; another key sees itself.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ApiError, get } from "../../api";
import { number } from "../../format";
import { t } from "../../i18n";
import { repeat } from "../../live";
import { key as own, may, noticed } from "../../session";
import { SecretDialog, type Task, TaskDialog } from "./dialogs";
import type { ApiKey } from "./key";
import { KeyTable } from "./table";
import { Usage } from "./usage";

const EVERY_MS = 3000;
/** Rows of the table; the rest is found by name. */
const MOST = 200;

export function Keys() {
  const keys = useSignal<ApiKey[] | null>(null);
  const wrong = useSignal("");

  async function look() {
    try {
      const found = may("admin")
        ? (await get<{ keys: ApiKey[] }>("keys")).keys
        : [await get<ApiKey>(`keys/${own.value?.id ?? ""}`)];
      keys.value = found;
      wrong.value = "";
    } catch (error) {
      noticed(error);
      wrong.value = error instanceof ApiError && error.status ? error.message : t("stale", { why: t("unreachable") });
    }
  }
  useEffect(() => repeat(look, EVERY_MS), []);

  return (
    <div class="keys">
      <h1 class="unseen">{t("nav.keys")}</h1>
      <p class="bad" role="alert">
        {wrong.value}
      </p>
      {!keys.value && !wrong.value && <p class="notice">{t("page.loads")}</p>}
      {keys.value && (may("admin") ? <All keys={keys.value} look={look} /> : <Own keys={keys.value} />)}
      <Usage names={keys.value?.map((key) => key.name) ?? []} />
    </div>
  );
}

function Own({ keys }: { keys: ApiKey[] }) {
  return (
    <section>
      <h2>{t("keys.title")}</h2>
      <KeyTable keys={keys} />
    </section>
  );
}

function All({ keys, look }: { keys: ApiKey[]; look: () => Promise<void> }) {
  const name = useSignal("");
  const ended = useSignal(false);
  const task = useSignal<Task | null>(null);
  const secret = useSignal("");
  const found = keys.filter((key) => (ended.value || key.status === "active") && key.name.includes(name.value));

  function close(made?: string) {
    task.value = null;
    secret.value = made ?? "";
    void look();
  }
  return (
    <section>
      <h2>{t("keys.title")}</h2>
      <div class="tools">
        <button type="button" class="primary" onClick={() => (task.value = { what: "make" })}>
          {t("keys.make")}
        </button>
        <input
          type="search"
          aria-label={t("keys.find")}
          placeholder={t("keys.find")}
          value={name.value}
          onInput={(event) => (name.value = event.currentTarget.value)}
        />
        <label>
          <input type="checkbox" checked={ended.value} onChange={() => (ended.value = !ended.value)} />
          {t("keys.ended")}
        </label>
      </div>
      <KeyTable keys={found.slice(0, MOST)} act={(wanted) => (task.value = wanted)} />
      {found.length > MOST && <p class="muted foot">{t("keys.more", { count: number(found.length - MOST) })}</p>}
      {task.value && <TaskDialog task={task.value} close={close} />}
      {secret.value && <SecretDialog secret={secret.value} close={() => (secret.value = "")} />}
    </section>
  );
}
