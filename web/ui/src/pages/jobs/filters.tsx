// Which jobs are listed: a form whose fields are the query of the address.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../../api";
import { type Text, t, word } from "../../i18n";
import { go, place } from "../../route";
import { may, noticed } from "../../session";

const STATUSES = ["", "pending", "in_progress", "completed", "failed", "cancelled"];
const KINDS = ["", "chat", "completion", "embedding", "deployment", "addition"];

/** `names`: of the keys that an admin may choose from. */
export function Filters({ names }: { names: string[] }) {
  const { query } = place.value;
  const models = useSignal<string[]>([]);
  useEffect(() => {
    get<{ models: { id: string }[] }>("models").then((found) => (models.value = found.models.map((one) => one.id)), noticed);
  }, []);

  /** Goes to the first page of what is wanted now. */
  function want(name: string, value: string): void {
    go("jobs", "", { ...query, cursor: "", [name]: value });
  }

  return (
    <form class="filters" role="search" aria-label={t("jobs.filter")} onSubmit={(event) => event.preventDefault()}>
      <Choice name="status" label="col.status" options={STATUSES} want={want} />
      <Choice name="kind" label="col.kind" options={KINDS} want={want} />
      <Field name="model" label="col.model" options={models.value} want={want} />
      {may("admin") && <Field name="key" label="col.key" options={names} want={want} />}
      <label>
        {t("jobs.since")}
        <input
          type="datetime-local"
          value={local(query.since)}
          onChange={({ currentTarget: { value } }) => want("since", value && new Date(value).toISOString())}
        />
      </label>
      <button type="reset" onClick={() => go("jobs")}>
        {t("jobs.noFilter")}
      </button>
    </form>
  );
}

interface Props {
  name: string;
  label: Text;
  options: string[];
  want: (name: string, value: string) => void;
}

function Choice({ name, label, options, want }: Props) {
  return (
    <label>
      {t(label)}
      <select value={place.value.query[name] ?? ""} onChange={(event) => want(name, event.currentTarget.value)}>
        {options.map((one) => (
          <option key={one} value={one}>
            {one ? word(one) : t("jobs.any")}
          </option>
        ))}
      </select>
    </label>
  );
}

function Field({ name, label, options, want }: Props) {
  return (
    <label>
      {t(label)}
      <input
        list={`${name}-options`}
        placeholder={t("jobs.any")}
        value={place.value.query[name] ?? ""}
        onChange={(event) => want(name, event.currentTarget.value.trim())}
      />
      <datalist id={`${name}-options`}>
        {options.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </label>
  );
}

/** A time as the input wants it: of this place, without its zone. */
function local(iso: string | undefined): string {
  const at = Date.parse(iso ?? "");
  if (Number.isNaN(at)) return "";
  return new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
