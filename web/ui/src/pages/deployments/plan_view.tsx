import { bytes } from "../../format";
import { t } from "../../i18n";
import { type Alternative, type DevicePlan, fields, plan, take, wrong } from "./form";

const PARTS = ["weights_bytes", "kv_cache_bytes", "workspace_bytes"] as const;

/** What the form's deployment would take of each device, and what would fit where that does not. */
export function PlanView() {
  const found = plan.value;
  return (
    <section class="plan">
      <h2>{t("plan.title", { model: fields.value.model })}</h2>
      <p class={`lines ${wrong.value || found?.fits === false ? "bad" : ""}`} role="status">
        {wrong.value || (found && t(VERDICTS[String(found.fits)]))}
      </p>
      {found && (
        <>
          {Object.entries(found.memory_plan).map(([device, one]) => (
            <OneDevice key={device} device={device} plan={one} />
          ))}
          <p class="muted">{t("plan.inForce", { what: listed(found.effective_config) })}</p>
          {found.warnings.map((text) => (
            <p key={text} class="warning">
              {text}
            </p>
          ))}
          <Alternatives found={found.alternatives} />
        </>
      )}
    </section>
  );
}

const VERDICTS: Record<string, "plan.fits" | "plan.tight" | "plan.unknown"> = {
  true: "plan.fits",
  false: "plan.tight",
  null: "plan.unknown",
};

function listed(options: Record<string, unknown>): string {
  return Object.entries(options).map(([name, value]) => `${name} ${String(value)}`).join(", ");
}

function OneDevice({ device, plan: one }: { device: string; plan: DevicePlan | null }) {
  if (!one)
    return (
      <p>
        {device}: <span class="muted">{t("plan.unmeasured")}</span>
      </p>
    );
  const most = Math.max(one.free_bytes, one.total_bytes, one.loading_bytes);
  const parts = PARTS.map((name) => t(`plan.${name}`, { size: bytes(one[name]) }));
  const sum = t("plan.sum", { total: bytes(one.total_bytes), free: bytes(one.free_bytes) });
  return (
    <div class="device-plan">
      <div>
        <strong>{device}</strong> <span class={one.fits ? "" : "bad"}>{sum}</span>
      </div>
      <div class="stack" role="img" aria-label={`${device}: ${parts.join(", ")}; ${sum}`}>
        {PARTS.map((name) => (
          <span key={name} class={name} style={{ width: `${(100 * one[name]) / most}%` }} />
        ))}
        <span class="tick" style={{ left: `${(100 * one.free_bytes) / most}%` }} />
      </div>
      <div class="muted parts" aria-hidden="true">
        {PARTS.map((name, at) => (
          <span key={name}>
            <span class={`block ${name}`} />
            {parts[at]}
          </span>
        ))}
        {one.loading_bytes > one.total_bytes && <span>{t("plan.loading", { size: bytes(one.loading_bytes) })}</span>}
      </div>
    </div>
  );
}

function Alternatives({ found }: { found: Alternative[] }) {
  if (!found.length) return null;
  return (
    <>
      <h3>{t("plan.alternatives")}</h3>
      <ul class="alternatives">
        {found.map((one) => (
          <li key={JSON.stringify(one.change)}>
            <button type="button" onClick={() => take(one)}>
              {listed(one.change)}
            </button>{" "}
            <span class="muted">{bytes(one.total_bytes)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}
