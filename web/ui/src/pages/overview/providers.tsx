import { number } from "../../format";
import { t, word } from "../../i18n";
import { Status, Table } from "../../parts";
import { history, type ProviderCalls } from "./history";

/** Each provider of remote models: whether it answers, and its calls of the last hour. */
export function Providers({ states }: { states: Record<string, string> }) {
  const calls = new Map(history.value?.providers.map((one) => [one.provider, one]));
  const names = [...new Set([...Object.keys(states), ...calls.keys()])].sort();
  return (
    <section>
      <h2 id="providers">{t("providers.title")}</h2>
      {names.length === 0 && <p class="muted">{t("providers.none")}</p>}
      {names.length > 0 && (
        <Table caption={t("providers.caption")} by="providers">
          <thead>
            <tr>
              <th scope="col">{t("col.provider")}</th>
              <th scope="col">{t("col.status")}</th>
              <th scope="col" class="figure">
                {t("providers.calls")}
              </th>
              <th scope="col" class="figure">
                {t("providers.errors")}
              </th>
              <th scope="col">{t("providers.ends")}</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <Row key={name} name={name} state={states[name]} calls={calls.get(name)} />
            ))}
          </tbody>
        </Table>
      )}
    </section>
  );
}

function Row({ name, state, calls }: { name: string; state?: string; calls?: ProviderCalls }) {
  return (
    <tr class="group">
      <th scope="row">{name}</th>
      <td>{state ? <Status name={state} /> : "–"}</td>
      <td class="figure">{number(calls?.calls ?? 0)}</td>
      <td class={`figure ${calls?.errors ? "bad" : ""}`}>{number(calls?.errors ?? 0)}</td>
      <td class="muted">{calls?.ends.map(({ end, count }) => `${word(end)} ${number(count)}`).join(", ")}</td>
    </tr>
  );
}
