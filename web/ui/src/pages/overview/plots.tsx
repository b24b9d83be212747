import { useMemo } from "preact/hooks";
import { t } from "../../i18n";
import { Plot } from "../../plot";
import { type Sample, samples, SPAN_S } from "./cluster";

/** Tokens, sequences and waiting jobs of the last minutes. */
export function Plots() {
  const found = samples.value;
  const times = useMemo(() => found.map((one) => one.at), [found]);
  const values = (name: keyof Sample) => found.map((one) => one[name]);
  const common = { times, spanS: SPAN_S };
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
    </div>
  );
}
