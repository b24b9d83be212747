// What is asked before a key is made, changed or ended, and its secret, once.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { local } from "../../format";
import { type Text, t } from "../../i18n";
import { Draft } from "../../query_fields";
import { reasonOf } from "../../session";
import { type ApiKey, make, revoke, rotate, SCOPES, update, wanted, type Wanted } from "./key";

export type Task = { what: "make" } | { what: "change" | "rotate" | "revoke"; key: ApiKey };

const GRACES: [number, Text][] = [
  [0, "keys.atOnce"],
  [3600, "keys.hour"],
  [86_400, "keys.day"],
  [7 * 86_400, "keys.week"],
];

interface Props {
  task: Task;
  /** Called when it has been done, or left; a secret was made, and is to be shown. */
  close: (secret?: string) => void;
}

export function TaskDialog({ task, close }: Props) {
  const key = "key" in task ? task.key : null;
  const form = useSignal<Wanted>(wanted(key));
  const grace = useSignal(0);
  const wrong = useSignal("");
  const busy = useSignal(false);

  async function act(): Promise<string | undefined | void> {
    if (task.what === "make") return make(form.value);
    if (task.what === "change") return update(task.key, form.value);
    if (task.what === "rotate") return rotate(task.key, grace.value);
    return revoke(task.key);
  }
  async function submit(event: Event) {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    try {
      close((await act()) ?? undefined);
    } catch (error) {
      wrong.value = reasonOf(error);
      busy.value = false;
    }
  }

  return (
    <Modal title={t(`keys.${task.what}` as Text, { name: key?.name ?? "" })} close={close}>
      <form class="fields" onSubmit={submit}>
        {(task.what === "make" || task.what === "change") && (
          <Fields form={form.value} set={(part) => (form.value = { ...form.value, ...part })} fresh={!key} />
        )}
        {task.what === "rotate" && (
          <label>
            {t("keys.grace")}
            <select value={grace.value} onChange={(event) => (grace.value = Number(event.currentTarget.value))}>
              {GRACES.map(([seconds, text]) => (
                <option key={seconds} value={seconds}>
                  {t(text)}
                </option>
              ))}
            </select>
          </label>
        )}
        {task.what === "revoke" && <p>{t("keys.revokeWhat")}</p>}
        <p class="bad" role="alert">
          {wrong.value}
        </p>
        <div class="buttons">
          <button type="submit" class="primary" disabled={busy.value}>
            {t(`keys.${task.what}Do` as Text)}
          </button>
          <button type="button" onClick={() => close()}>
            {t("keys.leave")}
          </button>
        </div>
      </form>
    </Modal>
  );
}

function Fields({ form, set, fresh }: { form: Wanted; set: (part: Partial<Wanted>) => void; fresh: boolean }) {
  const amount = (name: "requests_per_minute" | "tokens_per_minute", label: Text) => (
    <label>
      {t(label)}
      <input
        type="number"
        min={1}
        placeholder={t("keys.noLimit")}
        value={form[name] ?? ""}
        onInput={({ currentTarget: { value } }) => set({ [name]: value ? Number(value) : null })}
      />
    </label>
  );
  const models = useSignal(form.models.join("\n"));
  return (
    <>
      <label>
        {t("keys.name")}
        <input
          required
          maxLength={100}
          value={form.name}
          onInput={(event) => set({ name: event.currentTarget.value })}
        />
      </label>
      {fresh && (
        <fieldset>
          <legend>{t("keys.scopes")}</legend>
          {SCOPES.map((scope) => (
            <label key={scope}>
              <input
                type="checkbox"
                checked={form.scopes.includes(scope)}
                onChange={({ currentTarget: { checked } }) =>
                  set({ scopes: SCOPES.filter((one) => (one === scope ? checked : form.scopes.includes(one))) })
                }
              />
              {t(`scope.${scope}`)}
            </label>
          ))}
        </fieldset>
      )}
      {amount("requests_per_minute", "keys.requests")}
      {amount("tokens_per_minute", "keys.tokens")}
      <label>
        {t("keys.weight")}
        <input
          type="number"
          min={1}
          max={100}
          required
          value={form.weight}
          onInput={(event) => set({ weight: Number(event.currentTarget.value) })}
        />
      </label>
      <label>
        {t("keys.expires")}
        <Draft
          type="datetime-local"
          value={local(form.expires_at)}
          commit={(value) => set({ expires_at: value ? new Date(value).toISOString() : null })}
        />
      </label>
      <label>
        {t("keys.models")}
        <textarea
          class="code"
          rows={2}
          spellcheck={false}
          placeholder={t("keys.allModels")}
          value={models.value}
          onInput={(event) => {
            models.value = event.currentTarget.value;
            set({ models: models.value.split(/\s+/).filter(Boolean) });
          }}
        />
      </label>
    </>
  );
}

/** A secret, which nobody can see again. */
export function SecretDialog({ secret, close }: { secret: string; close: () => void }) {
  const copied = useSignal(false);
  return (
    <Modal title={t("keys.secret")} close={close}>
      <p>{t("keys.once")}</p>
      <pre tabIndex={0}>{secret}</pre>
      <div class="buttons">
        <button
          type="button"
          class="primary"
          onClick={() => void navigator.clipboard?.writeText(secret).then(() => (copied.value = true))}
        >
          {copied.value ? t("play.copied") : t("play.copy")}
        </button>
        <button type="button" onClick={close}>
          {t("play.close")}
        </button>
      </div>
    </Modal>
  );
}

function Modal({ title, close, children }: { title: string; close: () => void; children: preact.ComponentChildren }) {
  const place = useRef<HTMLDialogElement>(null);
  useEffect(() => place.current?.showModal(), []);
  return (
    <dialog ref={place} class="task" aria-label={title} onClose={() => close()}>
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}
