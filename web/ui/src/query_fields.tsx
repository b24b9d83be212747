// Fields of a form that are the query of the address.
import type { Text } from "./i18n";
import { t } from "./i18n";
import { place } from "./route";

interface Props {
  name: string;
  label: Text;
  want: (name: string, value: string) => void;
}

/** `options`: values, and what they are called. */
export function Choice({ name, label, options, want }: Props & { options: readonly (readonly [string, string])[] }) {
  return (
    <label>
      {t(label)}
      <select
        value={place.value.query[name] ?? options[0][0]}
        onChange={(event) => want(name, event.currentTarget.value)}
      >
        {options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A text, for which there are proposals. */
export function Field({ name, label, options, want }: Props & { options: readonly string[] }) {
  return (
    <label>
      {t(label)}
      <input
        list={`${name}-options`}
        placeholder={t("any")}
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
