// A chat with one model or two side by side, which outlives reloads and workers.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get } from "../../api";
import { t } from "../../i18n";
import { noticed } from "../../session";
import { AnswerView } from "./answer_view";
import { Code } from "./code";
import { ask, change, clear, exchanges, fields, isRunning, stop } from "./conversation";
import { SettingsForm } from "./settings_form";

interface CatalogModel {
  id: string;
  status: string;
  capabilities: string[];
}

/** Statuses of models that answer, or would after a moment. */
const ASKABLE = new Set(["active", "asleep", "available", "loading", "degraded"]);

export function Playground() {
  const models = useSignal<CatalogModel[] | null>(null);
  useEffect(() => {
    get<{ models: CatalogModel[] }>("models").then(({ models: found }) => {
      models.value = found.filter((one) => one.capabilities.includes("chat") && ASKABLE.has(one.status));
      const ids = models.value.map((one) => one.id);
      const [first, second] = fields.value.models;
      const best = ids.includes(first) ? first : (ids[0] ?? "");
      change({ models: [best, ids.includes(second) ? second : ""] });
    }, noticed);
  }, []);
  if (!models.value) return <p class="notice">{t("page.loads")}</p>;
  if (!models.value.length) return <p class="notice">{t("play.none")}</p>;
  return (
    <div class="playground">
      <h1 class="unseen">{t("play.title")}</h1>
      <aside aria-label={t("play.settings")}>
        <Models ids={models.value.map((one) => one.id)} />
        <SettingsForm />
      </aside>
      <div class="talk">
        <Conversation />
        <Composer />
      </div>
    </div>
  );
}

function Models({ ids }: { ids: string[] }) {
  const [first, second] = fields.value.models;
  return (
    <>
      <label>
        {t("play.model")}
        <select value={first} onChange={(event) => change({ models: [event.currentTarget.value, second] })}>
          {ids.map((id) => (
            <option key={id}>{id}</option>
          ))}
        </select>
      </label>
      <label>
        {t("play.modelB")}
        <select value={second} onChange={(event) => change({ models: [first, event.currentTarget.value] })}>
          <option value="">{t("play.noSecond")}</option>
          {ids.map((id) => (
            <option key={id}>{id}</option>
          ))}
        </select>
      </label>
    </>
  );
}

function Conversation() {
  const place = useRef<HTMLDivElement>(null);
  const found = exchanges.value;
  useEffect(() => place.current?.scrollTo({ top: place.current.scrollHeight }), [found]);
  return (
    <div class="conversation" ref={place} tabIndex={0} role="region" aria-label={t("play.conversation")}>
      {found.length === 0 && <p class="notice">{t("play.empty")}</p>}
      {found.map(({ question, answers }, index) => (
        <article key={index}>
          <h2 class="unseen">{t("play.you")}</h2>
          <p class="question">{question}</p>
          <div class="answers">
            {answers.map((answer) => (
              <AnswerView key={answer.kept.idempotencyKey} answer={answer} />
            ))}
          </div>
        </article>
      ))}
    </div>
  );
}

function Composer() {
  const text = useSignal("");
  const wrong = useSignal("");

  function submit(event: Event) {
    event.preventDefault();
    if (!text.value.trim() || isRunning()) return;
    try {
      ask(text.value);
      text.value = "";
      wrong.value = "";
    } catch (error) {
      wrong.value = (error as Error).message;
    }
  }

  return (
    <form class="composer" onSubmit={submit}>
      <p role="alert" class="bad">
        {wrong.value}
      </p>
      <textarea
        rows={3}
        aria-label={t("play.ask")}
        placeholder={t("play.hint")}
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && submit(event)}
      />
      <div class="buttons">
        {isRunning() ? (
          <button type="button" class="primary" onClick={stop}>
            {t("play.stop")}
          </button>
        ) : (
          <button type="submit" class="primary" disabled={!text.value.trim()}>
            {t("play.send")}
          </button>
        )}
        <button type="button" onClick={clear} disabled={!exchanges.value.length}>
          {t("play.clear")}
        </button>
        <Code question={text.value} />
      </div>
    </form>
  );
}
