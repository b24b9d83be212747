// Which jobs are listed: a form whose fields are the query of the address.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../../api";
import { local } from "../../format";
import { t, word } from "../../i18n";
import { Choice, Draft, Field } from "../../query_fields";
import { go, place } from "../../route";
import { may, noticed } from "../../session";

const STATUSES = ["", "pending", "in_progress", "completed", "failed", "cancelled"];
const KINDS = ["", "chat", "completion", "embedding", "deployment", "addition"];

/** `names`: of the keys that an admin may choose from. */
export function Filters({ names }: { names: string[] }) {
  const { query } = place.value;
  const models = useSignal<string[]>([]);
  useEffect(() => {
    get<{ models: { id: string }[] }>("models").then((found) => {
      models.value = found.models.map((one) => one.id);
    }, noticed);
  }, []);

  /** Goes to the first page of what is wanted now. */
  function want(name: string, value: string): void {
    go("jobs", "", { ...query, cursor: "", [name]: value });
  }

  return (
    <form class="filters" role="search" aria-label={t("jobs.filter")} onSubmit={(event) => event.preventDefault()}>
      <Choice name="status" label="col.status" options={called(STATUSES)} want={want} />
      <Choice name="kind" label="col.kind" options={called(KINDS)} want={want} />
      <Field name="model" label="col.model" options={models.value} want={want} />
      {may("admin") && <Field name="key" label="col.key" options={names} want={want} />}
      <label>
        {t("jobs.since")}
        <Draft
          type="datetime-local"
          value={local(query.since)}
          commit={(value) => want("since", value && new Date(value).toISOString())}
        />
      </label>
      <button type="reset" onClick={() => go("jobs")}>
        {t("jobs.noFilter")}
      </button>
    </form>
  );
}

function called(values: string[]): [string, string][] {
  return values.map((value) => [value, value ? word(value) : t("any")]);
}
