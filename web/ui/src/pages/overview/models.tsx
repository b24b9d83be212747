import { bytes, duration, number, percent, rate } from "../../format";
import { t } from "../../i18n";
import { Meter, Status, Table } from "../../parts";
import type { Cluster, LocalModel, Queue, Replica, Waiting } from "./cluster";

const NO_QUEUE: Omit<Queue, "id"> = {
  interactive: { waiting: 0, oldest_wait_s: 0, eta_s: null },
  background: { waiting: 0, oldest_wait_s: 0, eta_s: null },
  replicas: 0,
  slots: 0,
  running: 0,
};

/** A row for each model that runs or is waited for, and below it one for each replica. */
export function Models({ found: { models, queues } }: { found: Cluster }) {
  const served = new Map(models.map((model) => [model.id, model]));
  const waited = queues.filter(({ id, interactive, background }) => {
    return !served.has(id) && interactive.waiting + background.waiting > 0;
  });
  const ids = [...served.keys(), ...waited.map((queue) => queue.id)].sort();
  const rest = queues.filter((queue) => !ids.includes(queue.id)).length;
  return (
    <section>
      <h2 id="models">{t("models.title")}</h2>
      {ids.length === 0 && <p class="muted">{t("models.none")}</p>}
      {ids.length > 0 && (
        <Table caption={t("models.caption")} by="models">
          <Head />
          {ids.map((id) => (
            <Model
              key={id}
              id={id}
              model={served.get(id)}
              queue={queues.find((queue) => queue.id === id) ?? { id, ...NO_QUEUE }}
            />
          ))}
        </Table>
      )}
      {rest > 0 && <p class="muted foot">{t("models.more", { count: rest })}</p>}
    </section>
  );
}

function Head() {
  return (
    <thead>
      <tr>
        <th scope="col">{t("col.model")}</th>
        <th scope="col">{t("col.status")}</th>
        <th scope="col" class="figure">
          {t("col.tokens")}
        </th>
        <th scope="col">{t("col.slots")}</th>
        <th scope="col">{t("col.kv")}</th>
        <th scope="col">
          {t("col.memory")} <span class="note">{t("col.memoryNote")}</span>
        </th>
        <th scope="col" class="figure">
          {t("col.interactive")}
        </th>
        <th scope="col" class="figure">
          {t("col.background")}
        </th>
        <th scope="col" class="figure">
          {t("col.oldest")}
        </th>
        <th scope="col" class="figure">
          {t("col.latency")}
        </th>
      </tr>
    </thead>
  );
}

function Model({ id, model, queue }: { id: string; model?: LocalModel; queue: Queue }) {
  const oldest = Math.max(queue.interactive.oldest_wait_s, queue.background.oldest_wait_s);
  const latency = model?.performance.avg_latency_ms;
  return (
    <tbody>
      <tr class="group">
        <th scope="row">{id}</th>
        <td>
          <Status name={model?.status ?? "missing"} />
        </td>
        <td class="figure">{rate(model?.performance.tokens_per_second ?? 0)}</td>
        <td>
          <Share value={queue.running} most={queue.slots} label={t("col.slots")} />
        </td>
        <td />
        <td />
        <Waits line={queue.interactive} />
        <Waits line={queue.background} />
        <td class="figure">{oldest ? duration(oldest) : "–"}</td>
        <td class="figure">{latency ? duration(latency / 1000) : "–"}</td>
      </tr>
      {model?.replicas.map((replica) => (
        <ReplicaRow key={replica.replica_id} replica={replica} slots={model.performance.max_batch_size} />
      ))}
    </tbody>
  );
}

/** How many wait, and when one that comes now would begin. */
function Waits({ line: { waiting, eta_s: eta } }: { line: Waiting }) {
  return (
    <td class={`figure ${waiting ? "" : "none"}`}>
      {number(waiting)}
      {waiting > 0 && (
        <span class="note eta">{eta === null ? t("models.noEta") : t("models.eta", { time: duration(eta) })}</span>
      )}
    </td>
  );
}

function ReplicaRow({ replica, slots }: { replica: Replica; slots: number }) {
  const most = replica.effective_config.max_batch_size ?? slots;
  const capacity = replica.effective_config.kv_capacity_tokens;
  const { memory_bytes: measured, planned_bytes: planned } = replica;
  const memory = `${bytes(measured)} / ${planned ? bytes(planned) : "–"}`;
  return (
    <tr class="part">
      <th scope="row">
        <span class="where">
          {replica.node_id}.{replica.device}
        </span>{" "}
        <span class="muted">
          {replica.engine}
          {replica.quantization !== "none" && `, ${replica.quantization}`}
        </span>
      </th>
      <td>
        <Status name={replica.health} />
      </td>
      <td class="figure">{rate(replica.tokens_per_second)}</td>
      <td>
        <Share value={replica.sequences} most={most} label={t("col.slots")} />
      </td>
      <td>
        {capacity ? (
          <Meter
            value={replica.kv_used_tokens}
            most={capacity}
            label={`${t("col.kv")}: ${percent(replica.kv_used_tokens / capacity)}`}
          />
        ) : (
          <span class="none">–</span>
        )}
      </td>
      <td class="memory">
        <Meter
          value={measured}
          most={Math.max(measured, planned ?? 0)}
          mark={planned ?? undefined}
          label={`${t("col.memory")}: ${memory}`}
        />
        {memory}
      </td>
      <td colSpan={4} />
    </tr>
  );
}

function Share({ value, most, label }: { value: number; most: number; label: string }) {
  const text = `${number(value)} / ${number(most)}`;
  return (
    <span class="share">
      <Meter value={value} most={most} label={`${label}: ${text}`} />
      {text}
    </span>
  );
}
