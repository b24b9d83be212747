// One job: its figures, the picture of its history, and the same as a list.
import { useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get } from "../../api";
import { duration, moment, number } from "../../format";
import { type Text, t, word } from "../../i18n";
import { useLive } from "../../live";
import { Figure, Status } from "../../parts";
import { address, go } from "../../route";
import { cancel, ENDED, mayCancel, mayReplay, replay } from "./actions";
import { sentence, type Timeline } from "./history";
import { useKeyNames } from "./key_names";
import { Picture } from "./picture";

const EVERY_MS = 1000;
/** How often the picture grows between two looks. */
const TICK_MS = 200;

export function JobPage({ id }: { id: string }) {
  const lookedAt = useSignal(0);
  const ended = useSignal(false);
  const failed = useSignal("");
  async function ask() {
    const timeline = await get<Timeline>(`jobs/${encodeURIComponent(id)}/timeline`);
    lookedAt.value = performance.now();
    ended.value = ENDED.has(timeline.status);
    return timeline;
  }
  const { found, wrong } = useLive(ask, ended.value ? 0 : EVERY_MS, id);

  return (
    <div class="job">
      <nav aria-label={t("jobs.title")}>
        <a href={address("jobs")}>{t("jobs.all")}</a>
      </nav>
      <h1>
        <code>{id}</code>
      </h1>
      <p class="bad" role="alert">
        {failed.value || wrong.value}
      </p>
      {found && <Whole found={found} lookedAt={lookedAt.value} fail={(text) => (failed.value = text)} />}
      {!found && !wrong.value && <p class="notice">{t("page.loads")}</p>}
    </div>
  );
}

interface Props {
  found: Timeline;
  lookedAt: number;
  fail: (text: string) => void;
}

function Whole({ found, lookedAt, fail }: Props) {
  const [chosen, choose] = useState<number | null>(null);
  const until = useUntil(found, lookedAt);
  return (
    <>
      <Actions found={found} fail={fail} />
      <Figures found={found} />
      {found.error && (
        <p class="bad">
          {found.error.reason}: {found.error.message}
        </p>
      )}
      <Picture found={found} until={until} chosen={chosen} />
      <section>
        <h2 id="history">{t("history.list")}</h2>
        <ol class="entries" aria-labelledby="history">
          {found.timeline.map((entry, index) => (
            <li key={index} class={entry.cause === "preempted" ? "" : entry.what}>
              <button
                type="button"
                class="quiet"
                aria-pressed={chosen !== null && chosen === entry.after_s}
                aria-label={t("history.show", { time: duration(entry.after_s ?? 0) })}
                onClick={() => choose(chosen === entry.after_s ? null : entry.after_s)}
              >
                {duration(entry.after_s ?? 0)}
              </button>
              <span>{sentence(entry)}</span>
            </li>
          ))}
        </ol>
      </section>
    </>
  );
}

function Actions({ found, fail }: { found: Timeline; fail: (text: string) => void }) {
  async function again() {
    const made = await replay(found.job_id, fail);
    if (made) go("jobs", made);
  }
  return (
    <p class="actions">
      <Status name={found.status} />
      {mayCancel(found) && (
        <button type="button" onClick={() => void cancel(found.job_id, fail)}>
          {t("jobs.cancel")}
        </button>
      )}
      {mayReplay(found) && (
        <button type="button" onClick={() => void again()}>
          {t("jobs.replay")}
        </button>
      )}
    </p>
  );
}

function Figures({ found }: { found: Timeline }) {
  const seconds = (value: number | null) => (value === null ? "–" : duration(value));
  const cached = found.cached_tokens ? t("job.cached", { tokens: number(found.cached_tokens) }) : undefined;
  const replayed = found.replayed_tokens ? t("job.replayed", { tokens: number(found.replayed_tokens) }) : undefined;
  const names = useKeyNames();
  const figures: [Text, string, string?][] = [
    ["job.model", found.model, `${word(found.kind)}, ${word(found.priority)}`],
    ["job.made", moment(found.created_at)],
    ...(names.size ? [["col.key", names.get(found.key_id) ?? found.key_id] as [Text, string]] : []),
    ["job.waited", seconds(found.waited_s)],
    ["job.first", seconds(found.first_token_s)],
    ["job.took", duration(found.elapsed_s)],
    ["job.stood", duration(found.paused_s), replayed],
    ["job.prompt", found.prompt_tokens === null ? "–" : number(found.prompt_tokens), cached],
    ["job.answer", found.usage?.completion_tokens === undefined ? "–" : number(found.usage.completion_tokens)],
  ];
  return (
    <dl class="figures">
      {figures.map(([name, value, note]) => (
        <Figure key={name} name={t(name)} value={value} note={note} />
      ))}
    </dl>
  );
}

/** Where the picture ends: it grows between two looks while the job runs. */
function useUntil(found: Timeline, lookedAt: number): number {
  const [now, setNow] = useState(lookedAt);
  const ended = ENDED.has(found.status);
  useEffect(() => {
    if (ended) return;
    const timer = setInterval(() => setNow(performance.now()), TICK_MS);
    return () => clearInterval(timer);
  }, [ended]);
  return found.elapsed_s + (ended ? 0 : Math.max(0, Math.min(now - lookedAt, 2 * EVERY_MS)) / 1000);
}
