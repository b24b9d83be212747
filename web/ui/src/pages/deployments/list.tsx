import { ago, duration, percent } from "../../format";
import { t, word } from "../../i18n";
import { Meter, Status, Table } from "../../parts";
import { selected, type Summary } from "./state";

/** The newest deployments, with the stage that each is in. */
export function List({ deployments }: { deployments: Summary[] }) {
  return (
    <section>
      <h2 id="deployments">{t("list.title")}</h2>
      {deployments.length === 0 && <p class="muted">{t("list.none")}</p>}
      {deployments.length > 0 && (
        <Table caption={t("list.caption")} by="deployments">
          <thead>
            <tr>
              <th scope="col">{t("col.model")}</th>
              <th scope="col">{t("col.status")}</th>
              <th scope="col">{t("list.stage")}</th>
              <th scope="col">{t("list.began")}</th>
              <th scope="col">{t("list.took")}</th>
            </tr>
          </thead>
          <tbody>
            {deployments.map((one) => (
              <Row key={one.deployment_id} one={one} />
            ))}
          </tbody>
        </Table>
      )}
    </section>
  );
}

function Row({ one }: { one: Summary }) {
  const { deployment_id: id, created_at: began, finished_at: ended, progress } = one;
  return (
    <tr class="group">
      <th scope="row">
        <button
          type="button"
          class="link"
          aria-pressed={selected.value === id}
          aria-label={t("list.show", { model: one.model_id, id })}
          onClick={() => (selected.value = id)}
        >
          {one.model_id}
        </button>
      </th>
      <td>
        <Status name={one.status} />
      </td>
      <td>
        {progress !== null && one.current_stage && (
          <>
            <Meter value={progress} most={100} label={`${t("list.progress")}: ${percent(progress / 100)}`} />{" "}
            {percent(progress / 100)} {word(one.current_stage)}
          </>
        )}
        {one.error && <code>{one.error.reason}</code>}
      </td>
      <td>{t("nodes.ago", { time: ago(began) })}</td>
      <td>{ended ? duration((Date.parse(ended) - Date.parse(began)) / 1000) : "–"}</td>
    </tr>
  );
}
