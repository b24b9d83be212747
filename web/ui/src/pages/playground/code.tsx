import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { t } from "../../i18n";
import { exchanges, fields, messages } from "./conversation";
import { body, curl, python } from "./request";

/** The next request, or the last one while nothing is written, for a terminal and for Python. */
export function Code({ question }: { question: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const texts = useSignal<Record<string, string>>({});
  const copied = useSignal("");

  function open() {
    const [model] = fields.value.models;
    const asked = question.trim() || exchanges.value.at(-1)?.question || "Hello!";
    try {
      const request = body(fields.value, question.trim() ? messages(0, asked) : [{ role: "user", content: asked }]);
      texts.value = { curl: curl(model, request), Python: python(model, request) };
    } catch (error) {
      texts.value = { "": (error as Error).message };
    }
    dialog.current?.showModal();
  }

  async function copy(name: string) {
    await navigator.clipboard?.writeText(texts.value[name]);
    copied.value = name;
  }

  return (
    <>
      <button type="button" onClick={open}>
        {t("play.code")}
      </button>
      <dialog ref={dialog} aria-label={t("play.code")} onClose={() => (copied.value = "")}>
        {Object.entries(texts.value).map(([name, text]) => (
          <section key={name}>
            <h2>{name}</h2>
            <button type="button" onClick={() => void copy(name)}>
              {copied.value === name ? t("play.copied") : t("play.copy")}
            </button>
            <pre tabIndex={0}>{text}</pre>
          </section>
        ))}
        <button type="button" onClick={() => dialog.current?.close()}>
          {t("play.close")}
        </button>
      </dialog>
    </>
  );
}
