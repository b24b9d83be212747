// The list of jobs, a page at a time. Filters and place are in the address.
import { useSignal } from "@preact/signals";
import { duration, moment, number } from "../../format";
import { t, word } from "../../i18n";
import { useLive, useNow } from "../../live";
import { Status, Table } from "../../parts";
import { address, place } from "../../route";
import { cancel, ENDED, mayCancel, mayReplay, replay } from "./actions";
import { Filters } from "./filters";
import { JobPage } from "./job";
import { useKeyNames } from "./key_names";

export interface Job {
  job_id: string;
  kind: string;
  model: string;
  key_id: string;
  status: string;
  position?: number;
  eta_s?: number | null;
  attempts: number;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  usage: { prompt_tokens: number; completion_tokens?: number } | null;
  error: { reason?: string } | null;
}

interface Found {
  jobs: Job[];
  next_cursor: string | null;
}

/** How often the times of running jobs go on. */
const TICK_MS = 1000;
const FIELDS = ["status", "model", "kind", "key", "since", "cursor"];

export function Jobs() {
  const { id } = place.value;
  return id ? <JobPage id={id} /> : <List />;
}

function List() {
  const { query } = place.value;
  const asked = new URLSearchParams(FIELDS.flatMap((name) => (query[name] ? [[name, query[name]]] : []))).toString();
  const said = useSignal("");
  const failed = useSignal("");
  const live = useSignal(true);
  const names = useKeyNames();
  const { found, wrong, look } = useLive<Found>(`jobs?${asked}`, live.value);

  async function again(id: string) {
    failed.value = "";
    said.value = (await replay(id, (text) => (failed.value = text))) ?? "";
    look();
  }
  async function end(id: string) {
    failed.value = "";
    await cancel(id, (text) => (failed.value = text));
    look();
  }

  return (
    <div class="jobs">
      <h1 class="unseen">{t("jobs.title")}</h1>
      <Filters names={[...names.values()]} />
      <div class="tools">
        <button type="button" onClick={() => (live.value = !live.value)}>
          {live.value ? t("jobs.pause") : t("jobs.goOn")}
        </button>
        <span class="muted" role="status">
          {live.value ? t("jobs.live") : t("jobs.paused")}
          {said.value && (
            <>
              {" "}
              {t("jobs.again")} <a href={address("jobs", said.value)}>{said.value}</a>
            </>
          )}
        </span>
        <nav aria-label={t("jobs.pages")}>
          {query.cursor && <a href={address("jobs", "", { ...query, cursor: "" })}>{t("jobs.newest")}</a>}
          {found?.next_cursor && (
            <a href={address("jobs", "", { ...query, cursor: found.next_cursor })}>{t("jobs.older")}</a>
          )}
        </nav>
      </div>
      <p class="bad" role="alert">
        {failed.value || wrong.value}
      </p>
      {found && <JobTable jobs={found.jobs} live={live.value} names={names} again={again} end={end} />}
      {!found && !wrong.value && <p class="notice">{t("page.loads")}</p>}
    </div>
  );
}

interface Props {
  jobs: Job[];
  live: boolean;
  names: ReadonlyMap<string, string>;
  again: (id: string) => Promise<void>;
  end: (id: string) => Promise<void>;
}

function JobTable({ jobs, live, names, again, end }: Props) {
  const now = useNow(TICK_MS, live && jobs.some((job) => !job.finished_at));
  if (!jobs.length) return <p class="notice">{t("jobs.none")}</p>;
  return (
    <Table caption={t("jobs.title")}>
      <thead>
        <tr>
          <th scope="col">{t("job.made")}</th>
          <th scope="col">{t("col.job")}</th>
          <th scope="col">{t("col.status")}</th>
          <th scope="col">{t("col.model")}</th>
          <th scope="col">{t("col.kind")}</th>
          {names.size > 0 && <th scope="col">{t("col.key")}</th>}
          <th scope="col" class="figure">
            {t("job.waited")}
          </th>
          <th scope="col" class="figure">
            {t("job.took")}
          </th>
          <th scope="col" class="figure">
            {t("col.usedTokens")}
          </th>
          <th scope="col" class="figure">
            {t("col.claims")}
          </th>
          <th scope="col">
            <span class="unseen">{t("col.actions")}</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {jobs.map((job) => (
          <Row key={job.job_id} job={job} now={now} names={names} again={again} end={end} />
        ))}
      </tbody>
    </Table>
  );
}

function Row({ job, now, names, again, end }: { job: Job; now: number } & Omit<Props, "jobs" | "live">) {
  const until = job.finished_at ? Date.parse(job.finished_at) : now;
  const since = (from: string, to: number) => duration(Math.max(0, to - Date.parse(from)) / 1000);
  const { prompt_tokens: prompt = 0, completion_tokens: answer } = job.usage ?? {};
  return (
    <tr>
      <td>
        <time dateTime={job.created_at}>{moment(job.created_at)}</time>
      </td>
      <th scope="row">
        <a href={address("jobs", job.job_id)}>{job.job_id}</a>
      </th>
      <td>
        <Status name={job.status} />
        {job.error?.reason && <span class="note"> {job.error.reason}</span>}
        {!!job.position && <span class="note"> {where(job)}</span>}
      </td>
      <td>{job.model}</td>
      <td>{word(job.kind)}</td>
      {names.size > 0 && <td>{names.get(job.key_id) ?? job.key_id}</td>}
      <td class="figure">{since(job.created_at, job.started_at ? Date.parse(job.started_at) : until)}</td>
      <td class="figure">{since(job.created_at, until)}</td>
      <td class="figure">{job.usage ? `${number(prompt)} + ${number(answer ?? 0)}` : "–"}</td>
      <td class={`figure ${job.attempts > 1 ? "" : "none"}`}>{number(job.attempts)}</td>
      <td>
        {mayCancel(job) && (
          <button type="button" aria-label={`${t("jobs.cancel")}: ${job.job_id}`} onClick={() => void end(job.job_id)}>
            {t("jobs.cancel")}
          </button>
        )}
        {ENDED.has(job.status) && mayReplay(job) && (
          <button
            type="button"
            aria-label={`${t("jobs.replay")}: ${job.job_id}`}
            onClick={() => void again(job.job_id)}
          >
            {t("jobs.replay")}
          </button>
        )}
      </td>
    </tr>
  );
}

function where({ position = 0, eta_s: eta }: Job): string {
  const text = t("jobs.position", { position: number(position) });
  return eta ? text + t("play.eta", { time: duration(eta) }) : text;
}
