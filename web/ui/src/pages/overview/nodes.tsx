import { ago, bytes } from "../../format";
import { t } from "../../i18n";
import { Meter, Status, Table } from "../../parts";
import type { Device, Node } from "./cluster";

/** A row for each node, and below it one for each of its devices. */
export function Nodes({ nodes }: { nodes: Node[] }) {
  return (
    <section>
      <h2 id="nodes">{t("nodes.title")}</h2>
      {nodes.length === 0 && <p class="muted">{t("nodes.none")}</p>}
      {nodes.length > 0 && (
        <Table caption={t("nodes.caption")} by="nodes">
          <thead>
            <tr>
              <th scope="col">{t("col.node")}</th>
              <th scope="col">{t("col.status")}</th>
              <th scope="col">{t("col.free")}</th>
              <th scope="col">{t("col.hardware")}</th>
              <th scope="col">{t("col.version")}</th>
              <th scope="col">{t("col.seen")}</th>
            </tr>
          </thead>
          {nodes.map((node) => (
            <OneNode key={node.name} node={node} />
          ))}
        </Table>
      )}
    </section>
  );
}

function OneNode({ node }: { node: Node }) {
  const labels = Object.entries(node.labels).map(([name, value]) => `${name}=${value}`);
  return (
    <tbody>
      <tr class="group">
        <th scope="row">{node.name}</th>
        <td>
          <Status name={node.state} />
        </td>
        <td />
        <td class="muted">{labels.join(", ")}</td>
        <td>{node.version}</td>
        <td>{node.devices.some((device) => device.alive) ? t("nodes.now") : t("nodes.ago", { time: ago(node.last_seen) })}</td>
      </tr>
      {node.devices.map((device) => (
        <OneDevice key={device.device} device={device} />
      ))}
    </tbody>
  );
}

function OneDevice({ device }: { device: Device }) {
  const used = device.memory_bytes - device.memory_free_bytes;
  const memory = `${bytes(used)} / ${bytes(device.memory_bytes)}`;
  return (
    <tr class="part">
      <th scope="row">{device.device}</th>
      <td>
        <Status name={device.state === "ready" ? "healthy" : device.state} />
      </td>
      <td class="memory">
        <Meter value={used} most={device.memory_bytes} label={`${t("col.memory")}: ${memory}`} />
        {memory}
      </td>
      <td>{device.hardware}</td>
      <td colSpan={2} class="muted">
        {device.engines.join(", ")}
      </td>
    </tr>
  );
}
