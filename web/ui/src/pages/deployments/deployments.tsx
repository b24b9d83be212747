// Models on devices: what a deployment would take, how it goes on, and what becomes of it.
import { useEffect } from "preact/hooks";
import { t } from "../../i18n";
import { OperatorsPage } from "../../parts";
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
    <OperatorsPage name="deployments" title={t("deploy.title")} found={Boolean(found)} stale={stale.value}>
      {found && <All found={found} />}
    </OperatorsPage>
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
