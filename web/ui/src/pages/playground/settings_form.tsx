import { type Text, t } from "../../i18n";
import { change, fields } from "./conversation";
import { EFFORTS, EMPTY, type Fields, type Form, NUMBERS } from "./request";

const FORMS: readonly Form[] = ["text", "json", "schema"];

/** All that a request may say. A field that is empty leaves the model's default. */
export function SettingsForm() {
  const found = fields.value;
  return (
    <>
      <Area name="system" label="play.system" rows={3} />
      <div class="numbers">
        {NUMBERS.map(({ name, step }) => (
          <label key={name}>
            <code>{name}</code>
            <input
              type="number"
              step={step}
              value={found.numbers[name] ?? ""}
              onInput={(event) => change({ numbers: { ...found.numbers, [name]: event.currentTarget.value } })}
            />
          </label>
        ))}
        <label>
          <code>reasoning_effort</code>
          <select value={found.effort} onChange={(event) => change({ effort: event.currentTarget.value })}>
            {EFFORTS.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
      </div>
      <Area name="stop" label="play.stops" rows={2} />
      <label>
        {t("play.form")}
        <select value={found.form} onChange={(event) => change({ form: event.currentTarget.value as Form })}>
          {FORMS.map((one) => (
            <option key={one} value={one}>
              {t(`play.form.${one}` as Text)}
            </option>
          ))}
        </select>
      </label>
      {found.form === "schema" && <Area name="schema" label="play.schema" rows={5} />}
      <Area name="tools" label="play.tools" rows={3} />
      <Area name="more" label="play.more" rows={2} />
      <button type="button" onClick={() => change({ ...EMPTY, models: found.models })}>
        {t("play.reset")}
      </button>
    </>
  );
}

type TextField = { [Name in keyof Fields]: Fields[Name] extends string ? Name : never }[keyof Fields];

function Area({ name, label, rows }: { name: TextField; label: Text; rows: number }) {
  return (
    <label>
      {t(label)}
      <textarea
        class={name === "system" ? "" : "code"}
        rows={rows}
        spellcheck={name === "system"}
        value={fields.value[name]}
        onInput={(event) => change({ [name]: event.currentTarget.value })}
      />
    </label>
  );
}
