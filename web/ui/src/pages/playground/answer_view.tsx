import { duration, number, rate } from "../../format";
import { type Text, t, word } from "../../i18n";
import { useNow } from "../../live";
import { en } from "../../texts/en";
import type { Answer, AnswerData, Incident } from "./answer";

/** After how long without a token that is said. */
const SILENT_MS = 1500;

/** An answer with what happened to it, and its figures. */
export function AnswerView({ answer }: { answer: Answer }) {
  const data = answer.data.value;
  return (
    <section class="answer" aria-busy={!data.ended}>
      <h3>{data.model}</h3>
      {data.reasoning && (
        <details>
          <summary>{t("play.reasoning")}</summary>
          <p class="text muted">{data.reasoning}</p>
        </details>
      )}
      <p class="text">{data.text}</p>
      {data.calls.map((call, index) => (
        <div key={index} class="call">
          <span>{t("play.call", { name: call.name })}</span>
          <pre>{pretty(call.arguments)}</pre>
        </div>
      ))}
      <div class="incidents" role="log">
        {data.incidents.map((incident, index) => (
          <p key={index} class={incident.kind}>
            {told(incident)}
          </p>
        ))}
      </div>
      {data.error && (
        <p role="alert" class="bad">
          {data.error}
        </p>
      )}
      {data.ended ? <Figures data={data} /> : <State answer={answer} />}
    </section>
  );
}

/** What one waits for, as long as nothing comes. */
function State({ answer }: { answer: Answer }) {
  const now = useNow(500, true);
  const { position, etaS, loading, disconnected } = answer.waiting.value;
  const { lastAt } = answer.data.value;
  const silentMs = now - lastAt;
  let text = "";
  if (disconnected) text = t("play.reconnects");
  else if (loading !== null) text = t("play.modelLoads", { progress: loading });
  else if (position)
    text = t("play.queued", { position }) + (etaS === null ? "" : t("play.eta", { time: duration(etaS) }));
  else if (!lastAt) text = t("play.waits");
  else if (silentMs > SILENT_MS) text = t("play.silent", { time: duration(Math.round(silentMs / 1000)) });
  return <p class="state muted">{text || "\u00a0"}</p>;
}

function Figures({ data }: { data: AnswerData }) {
  const { usage, firstAt, lastAt, askedAt, endedAt, finish, jobId } = data;
  const figures: string[] = [];
  if (finish) figures.push(`finish.${finish}` in en ? t(`finish.${finish}` as Text) : word(finish));
  if (usage)
    figures.push(
      t("play.tokens", { prompt: number(usage.prompt_tokens), completion: number(usage.completion_tokens) }),
    );
  if (firstAt) figures.push(t("play.first", { time: duration((firstAt - askedAt) / 1000) }));
  if (usage && usage.completion_tokens > 1 && lastAt > firstAt)
    figures.push(t("play.speed", { rate: rate((1000 * (usage.completion_tokens - 1)) / (lastAt - firstAt)) }));
  figures.push(t("play.total", { time: duration((endedAt - askedAt) / 1000) }));
  return (
    <p class="state muted">
      {figures.join(" · ")} {jobId && <code>{jobId}</code>}
    </p>
  );
}

function told({ kind, characters, afterMs }: Incident): string {
  const after = afterMs === null ? "" : t("play.tookOverAfter", { time: duration(afterMs / 1000) });
  return t(`play.${kind}`, { characters: number(characters), after });
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // not whole yet
  }
}
