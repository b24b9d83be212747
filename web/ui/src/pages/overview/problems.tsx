import { type Text, t, word } from "../../i18n";
import type { Cluster } from "./cluster";

/** What is not as it should be, in words; nothing where all is well. */
export function Problems({ found }: { found: Cluster }) {
  const problems = [...list(found)];
  return (
    <section class="problems" aria-live="polite" hidden={!problems.length}>
      <h2>{t("problems.title")}</h2>
      <ul>
        {problems.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </section>
  );
}

function* list({ ready, nodes }: Cluster): Generator<string> {
  const say = (text: Text, what: string, name = "") => t(text, { name, what: word(what) });
  if (ready.redis !== "healthy") yield say("problems.redis", ready.redis);
  if (ready.keeper !== "healthy") yield say("problems.keeper", ready.keeper);
  for (const problem of ready.catalog_problems) yield t("problems.catalog", { what: problem });
  for (const node of nodes) {
    if (node.state !== "ready") yield say("problems.node", node.state, node.name);
    for (const device of node.devices) {
      if (![node.state, "ready"].includes(device.state)) yield say("problems.device", device.state, `${node.name}.${device.device}`);
    }
    for (const replica of node.replicas) {
      if (replica.status !== "healthy" && replica.status !== "asleep")
        yield say("problems.replica", replica.status, replica.replica_id);
    }
  }
  for (const [name, status] of Object.entries(ready.providers)) {
    if (status !== "healthy") yield say("problems.provider", status, name);
  }
}
