// What the gateway does now: figures, plots of the last hour, models with their replicas, nodes, providers, errors.
import { useEffect } from "preact/hooks";
import { bytes, duration, number, rate } from "../../format";
import { t } from "../../i18n";
import { Figure, OperatorsPage, Status } from "../../parts";
import { type Cluster, cluster, stale, sum, watch } from "./cluster";
import { Errors } from "./errors";
import { Models } from "./models";
import { Nodes } from "./nodes";
import { Plots } from "./plots";
import { Problems } from "./problems";
import { Providers } from "./providers";

export function Overview() {
  useEffect(watch, []);
  const found = cluster.value;
  return (
    <OperatorsPage name="overview" title={t("overview.title")} found={Boolean(found)} stale={stale.value}>
      {found && <All found={found} />}
    </OperatorsPage>
  );
}

function All({ found }: { found: Cluster }) {
  return (
    <>
      <Problems found={found} />
      <Figures found={found} />
      <Plots />
      <Models found={found} />
      <Nodes nodes={found.nodes} />
      <Providers states={found.ready.providers} />
      <Errors />
      <p class="muted foot">{t("durability", { what: found.ready.durability })}</p>
    </>
  );
}

function Figures({ found: { models, queues, nodes, ready } }: { found: Cluster }) {
  const devices = nodes.flatMap((node) => node.devices).filter((device) => device.alive);
  const total = sum(devices, (device) => device.memory_bytes);
  const used = total - sum(devices, (device) => device.memory_free_bytes);
  const interactive = sum(queues, (queue) => queue.interactive.waiting);
  const background = sum(queues, (queue) => queue.background.waiting);
  const oldest = Math.max(0, ...queues.flatMap((one) => [one.interactive.oldest_wait_s, one.background.oldest_wait_s]));
  const slots = sum(queues, (queue) => queue.slots);
  return (
    <dl class="figures">
      <Figure
        name={t("figure.tokens")}
        value={rate(sum(models, (model) => model.performance.tokens_per_second))}
      />
      <Figure
        name={t("figure.running")}
        value={number(sum(queues, (queue) => queue.running))}
        note={t("figure.runningOf", { slots: number(slots) })}
      />
      <Figure
        name={t("figure.waiting")}
        value={number(interactive + background)}
        note={t("figure.waitingOf", { interactive: number(interactive), background: number(background) })}
      />
      <Figure name={t("figure.oldest")} value={oldest ? duration(oldest) : "–"} />
      <Figure name={t("figure.memory")} value={bytes(used)} note={t("figure.memoryOf", { total: bytes(total) })} />
      <Figure
        name={t("figure.gateway")}
        value={<Status name={ready.status} />}
        note={t("figure.keeper", { time: duration(ready.keeper_round_s) })}
      />
    </dl>
  );
}
