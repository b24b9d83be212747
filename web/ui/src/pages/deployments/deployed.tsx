import { useSignal } from "@preact/signals";
import { bytes } from "../../format";
import { t } from "../../i18n";
import { Status, Table } from "../../parts";
import type { LocalModel } from "../overview/cluster";
import { fill } from "./form";
import { scale, type Seen, unload } from "./state";

interface Placed {
  id: string;
  where: string;
  status: string;
}

/** The models that devices have, or should have, and what may be done to each. */
export function Deployed({ found }: { found: Seen }) {
  const models = new Map<string, Placed[]>();
  for (const node of found.nodes) {
    for (const { replica_id: id, model_id: model, device, status } of node.replicas)
      models.set(model, [...(models.get(model) ?? []), { id, where: `${node.name}.${device}`, status }]);
  }
  const rows = [...models].sort(([one], [other]) => one.localeCompare(other));
  return (
    <section>
      <h2 id="deployed">{t("deployed.title")}</h2>
      {rows.length === 0 && <p class="muted">{t("deployed.none")}</p>}
      {rows.length > 0 && (
        <Table caption={t("deployed.caption")} by="deployed">
          <thead>
            <tr>
              <th scope="col">{t("col.model")}</th>
              <th scope="col">{t("col.status")}</th>
              <th scope="col" class="figure">
                {t("col.memory")}
              </th>
              <th scope="col">{t("deployed.actions")}</th>
            </tr>
          </thead>
          {rows.map(([model, replicas]) => (
            <Model
              key={model}
              model={model}
              status={found.models.find((one) => one.id === model)?.status ?? "missing"}
              replicas={replicas}
              resident={found.resident.find((one) => one.id === model)}
            />
          ))}
        </Table>
      )}
    </section>
  );
}

interface ModelProps {
  model: string;
  status: string;
  replicas: Placed[];
  resident?: LocalModel;
}

function Model({ model, status, replicas, resident }: ModelProps) {
  const memory = new Map(resident?.replicas.map((one) => [one.replica_id, one.memory_bytes]));
  return (
    <tbody>
      <tr class="group">
        <th scope="row">{model}</th>
        <td>
          <Status name={status} />
        </td>
        <td />
        <td>
          <Actions model={model} replicas={replicas.length} resident={resident} />
        </td>
      </tr>
      {replicas.map(({ id, where, status: health }) => (
        <tr key={id} class="part">
          <th scope="row">{where}</th>
          <td>
            <Status name={health === "missing" && status === "loading" ? status : health} />
          </td>
          <td class="figure">{memory.get(id) ? bytes(memory.get(id) ?? 0) : "–"}</td>
          <td class="muted">{id}</td>
        </tr>
      ))}
    </tbody>
  );
}

function Actions({ model, replicas, resident }: { model: string; replicas: number; resident?: LocalModel }) {
  const sure = useSignal(false);
  const wanted = useSignal("");
  if (sure.value)
    return (
      <span class="actions">
        {t("deployed.sure", { model })}
        <button type="button" onClick={() => ((sure.value = false), void unload(model))}>
          {t("deployed.unload")}
        </button>
        <button type="button" onClick={() => (sure.value = false)}>
          {t("deployed.keep")}
        </button>
      </span>
    );
  return (
    <form
      class="actions"
      onSubmit={(event) => {
        event.preventDefault();
        void scale(model, Number(wanted.value || replicas)).then(() => (wanted.value = ""));
      }}
    >
      <input
        type="number"
        min={1}
        max={64}
        aria-label={t("deployed.replicas", { model })}
        value={wanted.value || replicas}
        onInput={(event) => (wanted.value = event.currentTarget.value)}
      />
      <button type="submit" disabled={!wanted.value || Number(wanted.value) === replicas}>
        {t("deployed.scale")}
      </button>
      {resident && (
        <button type="button" onClick={() => fill(resident)}>
          {t("deployed.roll")}
        </button>
      )}
      <button type="button" onClick={() => (sure.value = true)}>
        {t("deployed.unload")}
      </button>
    </form>
  );
}
