// Fields of a form that are the query of the address.
import { useSignal } from "@preact/signals";
import { type Text, t } from "./i18n";
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
      <Draft
        list={`${name}-options`}
        placeholder={t("any")}
        value={place.value.query[name] ?? ""}
        commit={(value) => want(name, value.trim())}
      />
      <datalist id={`${name}-options`}>
        {options.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </label>
  );
}

type Attributes = Omit<preact.JSX.InputHTMLAttributes<HTMLInputElement>, "value">;

/** What is typed counts when one leaves the field or presses Enter; that the page is shown anew meanwhile leaves it. */
export function Draft({ value, commit, ...rest }: { value: string; commit: (value: string) => void } & Attributes) {
  const draft = useSignal<string | null>(null);
  function end() {
    const typed = draft.value;
    draft.value = null;
    if (typed !== null && typed !== value) commit(typed);
  }
  return (
    <input
      {...rest}
      value={draft.value ?? value}
      onInput={(event) => (draft.value = event.currentTarget.value)}
      onBlur={end}
      onKeyDown={(event) => event.key === "Enter" && end()}
    />
  );
}
