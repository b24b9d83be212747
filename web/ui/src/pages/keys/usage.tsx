// What keys have used and what it cost, by day, with its sums, and as CSV.
import { send } from "../../api";
import { number } from "../../format";
import { type Text, t } from "../../i18n";
import { Table } from "../../parts";
import { useLive } from "../../live";
import { Choice, Field } from "../../query_fields";
import { go, place } from "../../route";
import { may, reasonOf } from "../../session";
import { Bars } from "./bars";
import { daysUntilToday, type Group, groups, type Measure, measures, type Row } from "./report";
import { shown, type Split, SPLITS } from "./report";

const SPANS = ["30", "7", "90", "400"];

/** `names`: of the keys that an admin may choose from. */
export function Usage({ names }: { names: string[] }) {
  const { query } = place.value;
  const days = daysUntilToday(Number(SPANS.find((one) => one === query.days) ?? SPANS[0]));
  const asked = new URLSearchParams({ from: days[0], by: "day", ...chosen(query) }).toString();
  const { found: report, wrong } = useLive<{ usage: Row[] }>(`usage?${asked}`);

  const found = report?.usage ?? [];
  const split: Split = query.by === "key" && may("admin") ? "key" : "model";
  const known = measures(found);
  const measure = known.find((one) => one === query.measure) ?? known[0];
  const all = groups(found, split, measure);
  const want = (name: string, value: string) => go("keys", "", { ...query, [name]: value });
  return (
    <section class="usage">
      <h2>{t("usage.title")}</h2>
      <form class="filters" onSubmit={(event) => event.preventDefault()} aria-label={t("usage.title")}>
        <Choice
          name="days"
          label="usage.span"
          want={want}
          options={SPANS.map((one) => [one, t("usage.days", { days: one })])}
        />
        <Choice name="measure" label="usage.measure" want={want} options={known.map((one) => [one, called(one)])} />
        {may("admin") && (
          <>
            <Choice name="by" label="usage.split" want={want} options={SPLITS.map((one) => [one, t(`col.${one}`)])} />
            <Field name="key" label="col.key" want={want} options={names} />
          </>
        )}
        <Field name="model" label="col.model" want={want} options={[...new Set(found.map((row) => row.model))]} />
        <button type="button" onClick={() => download(asked).catch((error) => (wrong.value = reasonOf(error)))}>
          {t("usage.csv")}
        </button>
      </form>
      <p class="bad" role="alert">
        {wrong.value}
      </p>
      {report && !all.length && <p class="notice">{t("usage.none")}</p>}
      {all.length > 0 && (
        <>
          <Bars title={called(measure)} days={days} groups={shown(all, t("usage.others"))} digits={digits(measure)} />
          <Sums groups={all} split={split} />
        </>
      )}
    </section>
  );
}

function chosen({ key, model }: Record<string, string>): Record<string, string> {
  return { ...(key ? { key } : {}), ...(model ? { model } : {}) };
}

function called(measure: Measure): string {
  return t(`usage.${measure.split(" ")[0]}` as Text, { currency: measure.split(" ")[1] ?? "" });
}

function digits(measure: Measure): number {
  return measure.startsWith("cost") ? 4 : 0;
}

function Sums({ groups: all, split }: { groups: Group[]; split: Split }) {
  const cost = (group: Group) => Object.entries(group.costs).map(([name, one]) => `${number(one, 4)} ${name}`);
  return (
    <Table caption={t("usage.sums")}>
      <thead>
        <tr>
          <th scope="col">{t(`col.${split}`)}</th>
          {(["usage.jobs", "job.prompt", "job.answer", "col.cost"] as const).map((name) => (
            <th key={name} scope="col" class="figure">
              {t(name)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {all.map((group) => (
          <tr key={group.id}>
            <th scope="row">{group.name}</th>
            <td class="figure">{number(group.jobs)}</td>
            <td class="figure">{number(group.prompt)}</td>
            <td class="figure">{number(group.answer)}</td>
            <td class="figure">{cost(group).join(", ") || "–"}</td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

/** Saves the report as a file. Throws: ApiError. */
async function download(asked: string): Promise<void> {
  const response = await send(`usage?${asked}&format=csv`, { headers: { Accept: "text/csv" } });
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = "usage.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
