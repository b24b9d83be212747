import { render } from "preact";
import { App } from "./app";
import { load } from "./session";
import { follow } from "./settings";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/tables.css";
import "./style/overview.css";
import "./style/deployments.css";
import "./style/playground.css";
import "./style/jobs.css";
import "./style/keys.css";

const root = document.getElementById("app");
if (root) {
  follow();
  root.replaceChildren();
  render(<App />, root);
  void load();
}
