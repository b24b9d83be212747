import { useMemo } from "preact/hooks";
import { t } from "../../i18n";
import { Plot } from "../../plot";
import type { Sample } from "./cluster";
import { hour, perMinute, spanS } from "./history";

/** Tokens, sequences, waiting jobs and ends of the last hour. */
export function Plots() {
  const found = hour.value;
  const ends = perMinute.value;
  const times = useMemo(() => found.map((one) => one.at), [found]);
  const values = (name: keyof Sample) => found.map((one) => one[name]);
  const common = { times, spanS: spanS.value };
  return (
    <div class="plots">
      <Plot
        {...common}
        title={t("plot.tokens")}
        top={10}
        lines={[{ label: t("plot.tokens"), colour: "accent", values: values("tokens") }]}
      />
      <Plot
        {...common}
        title={t("plot.running")}
        top={4}
        lines={[
          { label: t("figure.running"), colour: "accent", values: values("running") },
          { label: t("plot.slots"), colour: "muted", values: values("slots"), limit: true },
        ]}
      />
      <Plot
        {...common}
        title={t("plot.waiting")}
        top={4}
        lines={[
          { label: t("plot.interactive"), colour: "accent", values: values("interactive") },
          { label: t("plot.background"), colour: "second", values: values("background") },
        ]}
      />
      <Plot
        times={ends.times}
        spanS={spanS.value}
        title={t("plot.ends")}
        top={4}
        lines={[
          { label: t("plot.ended"), colour: "accent", values: ends.ended },
          { label: t("plot.failed"), colour: "bad", values: ends.failed },
          { label: t("plot.refused"), colour: "second", values: ends.refused },
        ]}
      />
    </div>
  );
}
