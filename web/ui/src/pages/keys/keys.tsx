// API keys and what they have used. An admin manages them all; another key sees itself.
import { useSignal } from "@preact/signals";
import { number } from "../../format";
import { t } from "../../i18n";
import { useLive } from "../../live";
import { key as own, may } from "../../session";
import { SecretDialog, type Task, TaskDialog } from "./dialogs";
import type { ApiKey } from "./key";
import { KeyTable } from "./table";
import { Usage } from "./usage";

/** Rows of the table; the rest is found by name. */
const MOST = 200;

export function Keys() {
  const path = may("admin") ? "keys" : `keys/${own.value?.id ?? ""}`;
  const { found: answer, wrong, look } = useLive<{ keys: ApiKey[] } | ApiKey>(path);
  const found = answer && ("keys" in answer ? answer.keys : [answer]);
  return (
    <div class="keys">
      <h1 class="unseen">{t("nav.keys")}</h1>
      <p class="bad" role="alert">
        {wrong.value}
      </p>
      {!found && !wrong.value && <p class="notice">{t("page.loads")}</p>}
      {found && (may("admin") ? <All keys={found} look={look} /> : <Own keys={found} />)}
      <Usage names={found?.map((key) => key.name) ?? []} />
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

function All({ keys, look }: { keys: ApiKey[]; look: () => void }) {
  const name = useSignal("");
  const ended = useSignal(false);
  const task = useSignal<Task | null>(null);
  const secret = useSignal("");
  const found = keys.filter((key) => (ended.value || key.status === "active") && key.name.includes(name.value));

  function close(made?: string) {
    task.value = null;
    secret.value = made ?? "";
    look();
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
