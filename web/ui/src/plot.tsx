// A plot of the last hour or so, in the colours of the theme.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { t } from "./i18n";
import { duration, number } from "./format";
import { isDark, language } from "./settings";

export interface Line {
  label: string;
  /** The name of a colour of base.css. */
  colour: string;
  values: number[];
  /** A limit rather than a measure: dashed, without an area. */
  limit?: boolean;
}

interface Props {
  title: string;
  times: number[];
  lines: Line[];
  /** The least top of the scale, so that noise near zero stays flat. */
  top: number;
  spanS: number;
}

const HEIGHT = 132;

export function Plot({ title, times, lines, top, spanS }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const look = `${isDark()} ${language.value} ${lines.map((line) => line.label).join()} ${spanS}`;

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = new uPlot(options(element.clientWidth, lines, top, spanS), data(times, lines), element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [look]);
  useEffect(() => plot.current?.setData(data(times, lines)), [times]);

  const now = lines[0].values.at(-1) ?? 0;
  const most = Math.max(0, ...lines[0].values);
  const summary = t("plot.summary", { title, now: number(now, 1), most: number(most, 1), time: duration(spanS) });
  return (
    <figure class="plot">
      <figcaption>
        <span class="plot-title">{title}</span>
        {lines.length > 1 &&
          lines.map((line) => (
            <span key={line.label} class="key">
              <span class={`swatch ${line.colour} ${line.limit ? "limit" : ""}`} aria-hidden="true" />
              {line.label}
            </span>
          ))}
      </figcaption>
      <div ref={place} class="canvas" role="img" aria-label={summary} />
    </figure>
  );
}

function data(times: number[], lines: Line[]): uPlot.AlignedData {
  return [times, ...lines.map((line) => line.values)];
}

function options(width: number, lines: Line[], top: number, spanS: number): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const clock = new Intl.DateTimeFormat(language.value, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const axis = { stroke: colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: colour("line"), width: 1 };
  return {
    width,
    height: HEIGHT,
    padding: [8, 14, 0, 0],
    legend: { show: false },
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { range: (_, __, last) => [last - spanS, last] }, y: { range: (_, __, most) => [0, Math.max(top, most * 1.15)] } },
    axes: [
      { ...axis, grid: { show: false }, size: 24, space: 70, values: (_, at) => at.map((s) => clock.format(s * 1000)) },
      { ...axis, grid, size: 44, space: 28, values: (_, at) => at.map((value) => number(value, 1)) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 1.5,
        points: { show: false },
        ...(line.limit ? { dash: [4, 4] } : { fill: `${colour(line.colour)}22` }),
      })),
    ],
  };
}
