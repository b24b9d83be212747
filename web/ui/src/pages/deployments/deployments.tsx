// Models on devices: what a deployment would take, how it goes on, and what becomes of it.
import { useEffect } from "preact/hooks";
import { t } from "../../i18n";
import { key, may } from "../../session";
import { Deployed } from "./deployed";
import { DeployForm } from "./deploy_form";
import { Followed } from "./followed_view";
import { List } from "./list";
import { PlanView } from "./plan_view";
import { refused, type Seen, seen, stale, watch } from "./state";

export function Deployments() {
  useEffect(watch, []);
  const found = seen.value;
  return (
    <div class="deployments">
      <h1 class="unseen">{t("deploy.title")}</h1>
      {!may("deploy") && <p class="notice">{t("notAllowed", { scopes: key.value?.scopes.join(", ") ?? "" })}</p>}
      <p class="stale" role="status">
        {stale.value && t("stale", { why: stale.value })}
      </p>
      {found && <All found={found} />}
      {!found && may("deploy") && !stale.value && <p class="notice">{t("page.loads")}</p>}
    </div>
  );
}

function All({ found }: { found: Seen }) {
  return (
    <div class="columns">
      <aside aria-label={t("deploy.form")}>
        <DeployForm found={found} />
      </aside>
      <div class="overview">
        <PlanView />
        <p class="bad refused" role="alert">
          {refused.value}
        </p>
        <Followed />
        <Deployed found={found} />
        <List deployments={found.deployments} />
      </div>
    </div>
  );
}
