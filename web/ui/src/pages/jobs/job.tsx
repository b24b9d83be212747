// One job: its figures, the picture of its history, and the same as a list.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { duration, moment, number } from "../../format";
import { type Text, t, word } from "../../i18n";
import { useLive, useNow } from "../../live";
import { Figure, Status } from "../../parts";
import { address, go } from "../../route";
import { cancel, ENDED, mayCancel, mayReplay, replay } from "./actions";
import { sentence, type Timeline } from "./history";
import { useKeyNames } from "./key_names";
import { Picture } from "./picture";

/** How often the picture grows between two answers, and for how long at most. */
const TICK_MS = 200;
const STALE_MS = 3000;

export function JobPage({ id }: { id: string }) {
  const ended = useSignal(false);
  const failed = useSignal("");
  const { found, wrong } = useLive<Timeline>(`jobs/${encodeURIComponent(id)}/timeline`, !ended.value);
  const lookedAt = useMemo(() => Date.now(), [found]);
  useEffect(() => void (ended.value = !!found && ENDED.has(found.status)), [found]);

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
      {found && <Whole found={found} lookedAt={lookedAt} fail={(text) => (failed.value = text)} />}
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

/** Where the picture ends: it grows between two answers while the job runs. */
function useUntil(found: Timeline, lookedAt: number): number {
  const ended = ENDED.has(found.status);
  const now = useNow(TICK_MS, !ended);
  return found.elapsed_s + (ended ? 0 : Math.max(0, Math.min(now - lookedAt, STALE_MS)) / 1000);
}
