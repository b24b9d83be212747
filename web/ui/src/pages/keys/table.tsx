// API keys with their limits and what is left of them.
import { moment, number } from "../../format";
import { t } from "../../i18n";
import { Meter, Status, Table } from "../../parts";
import { key as own } from "../../session";
import type { Task } from "./dialogs";
import type { ApiKey } from "./key";

/** Without `act` nothing can be done to them. */
export function KeyTable({ keys, act }: { keys: ApiKey[]; act?: (task: Task) => void }) {
  return (
    <Table caption={t("keys.title")}>
      <thead>
        <tr>
          <th scope="col">{t("keys.name")}</th>
          <th scope="col">{t("col.status")}</th>
          <th scope="col">{t("keys.scopes")}</th>
          <th scope="col">{t("keys.requests")}</th>
          <th scope="col">{t("keys.tokens")}</th>
          <th scope="col" class="figure">
            {t("keys.weight")}
          </th>
          <th scope="col">{t("keys.models")}</th>
          <th scope="col">{t("keys.expires")}</th>
          {act && (
            <th scope="col">
              <span class="unseen">{t("col.actions")}</span>
            </th>
          )}
        </tr>
      </thead>
      <tbody>
        {keys.map((key) => (
          <Row key={key.id} found={key} act={act} />
        ))}
      </tbody>
    </Table>
  );
}

function Row({ found, act }: { found: ApiKey; act?: (task: Task) => void }) {
  const { requests_per_minute: requests, tokens_per_minute: tokens } = found;
  return (
    <tr>
      <th scope="row">
        {found.name} <code class="note">{found.prefix}…</code>{" "}
        {found.id === own.value?.id && <span class="note">{t("keys.own")}</span>}
      </th>
      <td>
        <Status name={found.status} />
      </td>
      <td>{found.scopes.join(", ")}</td>
      <td>
        <Left limit={requests} left={found.remaining_requests} label={t("keys.requests")} />
      </td>
      <td>
        <Left limit={tokens} left={found.remaining_tokens} label={t("keys.tokens")} />
      </td>
      <td class="figure">{number(found.weight)}</td>
      <td title={found.models.join(", ")}>{found.models.length ? models(found.models) : t("keys.allModels")}</td>
      <td>{found.expires_at ? moment(found.expires_at) : "–"}</td>
      {act && (
        <td class="buttons">
          {found.status !== "revoked" &&
            (["change", "rotate", "revoke"] as const).map((what) => (
              <button
                key={what}
                type="button"
                aria-label={`${t(`keys.${what}Do`)}: ${found.name}`}
                onClick={() => act({ what, key: found })}
              >
                {t(`keys.${what}Do`)}
              </button>
            ))}
        </td>
      )}
    </tr>
  );
}

function models([first, ...others]: string[]): string {
  return others.length ? `${first} +${others.length}` : first;
}

function Left({ limit, left, label }: { limit: number | null; left: number | null; label: string }) {
  if (!limit) return <span class="none">–</span>;
  const text = t("keys.left", { left: number(left ?? 0), limit: number(limit) });
  return (
    <span class="share">
      <Meter value={limit - (left ?? 0)} most={limit} label={`${label}: ${text}`} />
      {text}
    </span>
  );
}
