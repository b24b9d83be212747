import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, modelPath } from "../../api";
import { t } from "../../i18n";
import { repeat } from "../../live";
import { body, change, choose, fields, makePlan, NUMBERS, plan, QUANTIZATIONS, SWITCHES, told } from "./form";
import { deploy, refused, type Seen } from "./state";

/** A change of the form is planned when no other has come for so long; and again, since memory is taken and freed. */
const SETTLED_MS = 250;
const AGAIN_MS = 5000;

/** All that a deployment may ask for. Whatever is changed, the plan follows. */
export function DeployForm({ found }: { found: Seen }) {
  const { value } = fields;
  const busy = useSignal(false);
  const ids = found.models.map((one) => one.id);
  useEffect(() => {
    if (ids.includes(value.model)) return;
    change({ model: found.models.find((one) => one.status !== "active")?.id ?? ids[0] ?? "" });
  }, [found]);
  useEffect(() => {
    const timer = setTimeout(() => void makePlan(), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [value]);
  useEffect(() => repeat(makePlan, AGAIN_MS), []);

  async function submit(event: Event) {
    event.preventDefault();
    if (busy.value) return;
    busy.value = true;
    try {
      await deploy(body(fields.value));
      refused.value = "";
    } catch (error) {
      refused.value = told(error);
      await makePlan();
    } finally {
      busy.value = false;
    }
  }

  return (
    <form onSubmit={submit}>
      <label>
        {t("deploy.model")}
        <select value={value.model} onChange={(event) => choose(event.currentTarget.value)}>
          {ids.map((id) => (
            <option key={id}>{id}</option>
          ))}
        </select>
      </label>
      <Entry model={value.model} />
      <Targets found={found} />
      <div class="numbers">
        <label>
          <code>quantization</code>
          <select value={value.quantization} onChange={(event) => change({ quantization: event.currentTarget.value })}>
            {QUANTIZATIONS.map((one) => (
              <option key={one} value={one}>
                {one || t("deploy.default")}
              </option>
            ))}
          </select>
        </label>
        <NumberField name="replicas" value={value.replicas} onValue={(replicas) => change({ replicas })} />
        {NUMBERS.map((name) => (
          <NumberField
            key={name}
            name={name}
            value={value.numbers[name] ?? ""}
            onValue={(text) => change({ numbers: { ...value.numbers, [name]: text } })}
          />
        ))}
      </div>
      {SWITCHES.map((name) => (
        <label key={name} class="switch">
          <input
            type="checkbox"
            checked={value.switches[name]}
            onChange={(event) => change({ switches: { ...value.switches, [name]: event.currentTarget.checked } })}
          />
          <code>{name}</code>
        </label>
      ))}
      <button type="submit" class="primary" disabled={busy.value || !value.model || plan.value?.fits === false}>
        {t("deploy.submit")}
      </button>
    </form>
  );
}

function NumberField({ name, value, onValue }: { name: string; value: string; onValue: (text: string) => void }) {
  return (
    <label>
      <code>{name}</code>
      <input
        type="number"
        min={name === "idle_unload_s" ? 0 : 1}
        placeholder={t("deploy.default")}
        value={value}
        onInput={(event) => onValue(event.currentTarget.value)}
      />
    </label>
  );
}

/** What the catalog has decided about a model. */
function Entry({ model }: { model: string }) {
  const entry = useSignal<{ engine: string; source: string } | null>(null);
  useEffect(() => {
    entry.value = null;
    if (!model) return;
    get<{ entry?: { engine: string; source: string } }>(modelPath(model)).then(
      (found) => (entry.value = found.entry ?? null),
      () => undefined,
    );
  }, [model]);
  return (
    <p class="muted entry">
      {entry.value && `${t("col.engine")}: ${entry.value.engine}`}
      {entry.value?.source && (
        <>
          <br />
          {entry.value.source}
        </>
      )}
    </p>
  );
}

/** Devices and labels; none is chosen: the one with the most free memory. */
function Targets({ found: { nodes } }: { found: Seen }) {
  const alive = nodes.flatMap((node) =>
    node.devices.filter((device) => device.alive).map((device) => `${node.name}.${device.device}`),
  );
  const labels = nodes.flatMap((node) => Object.entries(node.labels).map(([name, value]) => `label:${name}=${value}`));
  const { targets } = fields.value;
  const names = [...new Set([...alive, ...labels, ...targets])];
  return (
    <fieldset>
      <legend>{t("deploy.targets")}</legend>
      {names.map((name) => (
        <label key={name} class="switch">
          <input
            type="checkbox"
            checked={targets.includes(name)}
            onChange={(event) => {
              const others = targets.filter((one) => one !== name);
              change({ targets: event.currentTarget.checked ? [...others, name] : others });
            }}
          />
          {name}
        </label>
      ))}
      {!targets.length && <p class="muted">{t("deploy.anywhere")}</p>}
    </fieldset>
  );
}
