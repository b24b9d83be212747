import { useSignal } from "@preact/signals";
import { ApiError } from "../api";
import { t } from "../i18n";
import { reason, signIn } from "../session";

/** Asks for an API key, and sends it once. */
export function SignIn() {
  const secret = useSignal("");
  const busy = useSignal(false);

  async function submit(event: Event) {
    event.preventDefault();
    if (busy.value || !secret.value.trim()) return;
    busy.value = true;
    try {
      await signIn(secret.value.trim());
    } catch (error) {
      reason.value = error instanceof ApiError && error.status ? error.message : t("unreachable");
    } finally {
      busy.value = false;
    }
  }

  return (
    <form class="sign-in" onSubmit={submit}>
      <h1>{t("signIn.title")}</h1>
      <label for="key">{t("signIn.key")}</label>
      <input
        id="key"
        type="password"
        autocomplete="current-password"
        spellcheck={false}
        autofocus
        required
        aria-describedby="key-hint"
        value={secret.value}
        onInput={(event) => (secret.value = event.currentTarget.value)}
      />
      <p id="key-hint" class="muted">
        {t("signIn.hint")}
      </p>
      <p role="alert" class="bad">
        {reason.value}
      </p>
      <button type="submit" class="primary" disabled={busy.value}>
        {busy.value ? t("signIn.busy") : t("signIn.submit")}
      </button>
    </form>
  );
}
