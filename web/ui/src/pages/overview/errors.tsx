import { number } from "../../format";
import { t, word } from "../../i18n";
import { Table } from "../../parts";
import { history } from "./history";

/** How the jobs of the last hour ended, why they failed, and which requests were refused. */
export function Errors() {
  const found = history.value;
  if (!found) return null;
  const others = found.ends.filter(({ end }) => end !== "done");
  const rows = [
    ...others.map(({ end, count }) => ({ what: t("errors.jobs", { end: word(end) }), reason: "", count })),
    ...found.failures.map(({ reason, count }) => ({ what: t("errors.failed"), reason, count })),
    ...found.replies.map(({ status, reason, count }) => ({ what: t("errors.reply", { status }), reason, count })),
  ];
  const done = found.ends.find(({ end }) => end === "done")?.count ?? 0;
  return (
    <section>
      <h2 id="errors">{t("errors.title")}</h2>
      <p class="muted">{t("errors.done", { count: number(done) })}</p>
      {rows.length > 0 && (
        <Table caption={t("errors.caption")} by="errors">
          <thead>
            <tr>
              <th scope="col">{t("errors.what")}</th>
              <th scope="col">{t("errors.reason")}</th>
              <th scope="col" class="figure">
                {t("errors.count")}
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ what, reason, count }) => (
              <tr key={what + reason}>
                <th scope="row">{what}</th>
                <td>{reason && <code>{reason}</code>}</td>
                <td class="figure">{number(count)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </section>
  );
}
