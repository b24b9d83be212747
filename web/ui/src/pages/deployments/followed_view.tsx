import { useEffect, useRef } from "preact/hooks";
import { bytes, duration, number } from "../../format";
import { t, word } from "../../i18n";
import { Meter, Status } from "../../parts";
import { type Detail, follow, followed, type Stage } from "./followed";
import { cancel, type Failure, hasEnded, selected } from "./state";

/** The deployment that is looked at: its stages, its log, and why it failed. */
export function Followed() {
  useEffect(() => follow(selected.value), [selected.value]);
  const found = followed.value;
  if (!found) return null;
  return (
    <section class="followed" aria-labelledby="followed">
      <h2 id="followed">
        {found.model_id} <Status name={found.status} />
      </h2>
      <p class="muted">
        <code>{found.deployment_id}</code> {left(found)}
      </p>
      {found.error && <Failed failure={found.error} />}
      <ol class="stages">
        {found.stages.map((stage) => (
          <OneStage key={stage.name} stage={stage} />
        ))}
      </ol>
      {found.warnings?.map((text) => (
        <p key={text} class="warning">
          {text}
        </p>
      ))}
      <Log lines={found.logs} />
      <div class="buttons">
        {!hasEnded(found) && (
          <button type="button" onClick={() => void cancel(found.deployment_id)}>
            {t("deploy.cancel")}
          </button>
        )}
        <button type="button" onClick={() => (selected.value = "")}>
          {t("deploy.hide")}
        </button>
      </div>
    </section>
  );
}

function left({ estimated_completion: at }: Detail): string {
  if (!at) return "";
  return t("deploy.left", { time: duration(Math.max(0, Math.round((Date.parse(at) - Date.now()) / 1000))) });
}

function OneStage({ stage }: { stage: Stage }) {
  const { name, status, units_done: done, units_total: total } = stage;
  const size = name === "downloading_weights" ? bytes : number;
  const counted = total ? t("deploy.of", { done: size(done ?? 0), total: size(total) }) : "";
  const share = status === "completed" ? 100 : total ? (100 * (done ?? 0)) / total : (stage.progress ?? 0);
  return (
    <li>
      <Status name={status} />
      <span class="name">{word(name)}</span>
      <Meter value={share} most={100} label={`${word(name)}: ${number(share)} %`} />
      <span class="counted">{counted}</span>
      <span class="muted">{stage.duration}</span>
    </li>
  );
}

function Failed({ failure }: { failure: Failure }) {
  return (
    <div class="failure" role="alert">
      <p class="bad">
        <code>{failure.reason}</code> {failure.message}
      </p>
      {failure.remedy && <p>{t("deploy.remedy", { what: failure.remedy })}</p>}
    </div>
  );
}

/** Its lines as they come; the last one is in sight unless somebody has gone up. */
function Log({ lines }: { lines: Detail["logs"] }) {
  const place = useRef<HTMLPreElement>(null);
  const before = place.current;
  const atEnd = !before || before.scrollTop + before.clientHeight > before.scrollHeight - 8;
  useEffect(() => {
    if (atEnd) place.current?.scrollTo({ top: place.current.scrollHeight });
  }, [lines.length]);
  return (
    <pre class="log" ref={place} tabIndex={0} role="log" aria-label={t("deploy.log")}>
      {lines.map(({ timestamp, level, message }) => `${timestamp.slice(11, 23)} ${level.padEnd(7)} ${message}\n`)}
    </pre>
  );
}
