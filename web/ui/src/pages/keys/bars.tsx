// A bar for each day, with a part for each group.
import { useEffect, useRef, useState } from "preact/hooks";
import { number, short } from "../../format";
import { t } from "../../i18n";
import type { Group } from "./report";

const HEIGHT = 190;
const LEFT = 56;
const BOTTOM = 22;
const TOP = 10;

interface Props {
  title: string;
  days: string[];
  groups: Group[];
  /** Digits behind the point. */
  digits: number;
}

export function Bars({ title, days, groups, digits }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!place.current) return;
    const observer = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);

  const sums = days.map((day) => groups.reduce((sum, group) => sum + (group.days.get(day) ?? 0), 0));
  const most = Math.max(...sums);
  const step = evenStep(most / 4);
  const top = Math.max(step * Math.ceil(most / step), step);
  const y = (value: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const each = Math.max(0, width - LEFT) / days.length;
  const total = sums.reduce((sum, one) => sum + one, 0);
  const busiest = days[sums.indexOf(most)];
  const summary = t("usage.summary", {
    title,
    total: number(total, digits),
    days: days.length,
    most: number(most, digits),
    day: busiest,
  });
  const labels = Math.max(1, Math.ceil(60 / Math.max(each, 1)));
  return (
    <figure class="plot">
      <figcaption>
        <span class="plot-title">{title}</span>
        {groups.map((group, index) => (
          <span key={group.id} class="key">
            <span class={`swatch series-${index}`} aria-hidden="true" />
            {group.name}
          </span>
        ))}
      </figcaption>
      <div ref={place}>
        <svg class="bars" width={width} height={HEIGHT} role="img" aria-label={summary}>
          {Array.from({ length: Math.round(top / step) + 1 }, (_, index) => index * step).map((value) => (
            <g key={value}>
              <line x1={LEFT} x2={width} y1={y(value)} y2={y(value)} />
              <text x={LEFT - 8} y={y(value) + 4} class="value">
                {short(value)}
              </text>
            </g>
          ))}
          {days.map((day, at) => (
            <g key={day}>
              <title>{`${day}: ${number(sums[at], digits)}`}</title>
              {stack(groups, day).map(({ index, from, to }) => (
                <rect
                  key={index}
                  class={`series-${index}`}
                  x={LEFT + at * each + each * 0.12}
                  width={Math.max(each * 0.76, 0.5)}
                  y={y(to)}
                  height={y(from) - y(to)}
                />
              ))}
              {(days.length - 1 - at) % labels === 0 && (
                <text x={Math.min(LEFT + (at + 0.5) * each, width - 16)} y={HEIGHT - 6} class="day">
                  {day.slice(5)}
                </text>
              )}
            </g>
          ))}
        </svg>
      </div>
    </figure>
  );
}

/** The parts of a day, one upon the other. */
function stack(groups: Group[], day: string): { index: number; from: number; to: number }[] {
  let from = 0;
  return groups.flatMap((group, index) => {
    const value = group.days.get(day) ?? 0;
    if (!value) return [];
    const part = { index, from, to: from + value };
    from = part.to;
    return [part];
  });
}

/** The least of 1, 2, 5, 10, … that is not less. */
function evenStep(rough: number): number {
  if (!(rough > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((one) => one * power >= rough) ?? 10);
}
