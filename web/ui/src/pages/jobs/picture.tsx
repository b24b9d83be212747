// The history of a job as a picture: a lane for the line, one for each worker, over time.
import { useEffect, useRef, useState } from "preact/hooks";
import { duration, number } from "../../format";
import { type Text, t } from "../../i18n";
import { type Bar, type History, history, type Mark, summary, type Timeline } from "./history";

const LANE = 42;
const BAR = 18;
const TOP = 24;
const END = 26;
/** How many times as wide as the page it may be made. */
const ZOOMS = [1, 4, 16, 64];
/** Widths at which a text of a bar fits. */
const LETTER = 6.5;

interface Props {
  found: Timeline;
  /** Seconds after the request: where the picture ends. */
  until: number;
  /** A time to point at. */
  chosen: number | null;
}

export function Picture({ found, until, chosen }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const [room, setRoom] = useState(0);
  const [zoom, setZoom] = useState(0);
  useEffect(() => {
    if (!place.current) return;
    const observer = new ResizeObserver(([entry]) => setRoom(entry.contentRect.width));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);

  const drawn = history(found);
  const width = Math.max(200, room * ZOOMS[zoom]);
  const span = Math.max(until, 0.001);
  const x = (at: number) => Math.min(at / span, 1) * (width - END);
  useEffect(() => {
    if (chosen !== null) place.current?.scrollTo({ left: x(chosen) - room / 2 });
  }, [chosen, zoom]);

  return (
    <figure class="history">
      <figcaption>
        <Legend drawn={drawn} />
        <span class="zoom">
          <button type="button" disabled={!zoom} onClick={() => setZoom(zoom - 1)} aria-label={t("history.wider")}>
            −
          </button>
          <button
            type="button"
            disabled={zoom === ZOOMS.length - 1}
            onClick={() => setZoom(zoom + 1)}
            aria-label={t("history.closer")}
          >
            +
          </button>
        </span>
      </figcaption>
      <div class="lanes" aria-hidden="true">
        {drawn.lanes.map((name, lane) => (
          <span key={name} class={lane ? "worker" : ""} title={name}>
            {name}
          </span>
        ))}
      </div>
      <div class="canvas" ref={place} tabIndex={0} role="region" aria-label={t("history.picture")}>
        <svg width={width} height={TOP + LANE * drawn.lanes.length} role="img" aria-label={summary(found)}>
          <Axis span={span} x={x} height={TOP + LANE * drawn.lanes.length} room={width} />
          {drawn.lanes.map((name, lane) => (
            <line key={name} class="lane" x1={0} x2={width} y1={middle(lane)} y2={middle(lane)} />
          ))}
          {drawn.moves.map(({ at, from, to }, index) => (
            <line key={index} class="move" x1={x(at)} x2={x(at)} y1={middle(from)} y2={middle(to)} />
          ))}
          {drawn.bars.map((bar, index) => (
            <Piece key={index} bar={bar} x={x} until={until} />
          ))}
          <Resumes drawn={drawn} x={x} />
          <Sizes drawn={drawn} x={x} until={until} />
          {drawn.marks.map((mark, index) => (
            <Sign key={index} mark={mark} x={x(mark.at)} />
          ))}
          {chosen !== null && <line class="chosen" x1={x(chosen)} x2={x(chosen)} y1={0} y2="100%" />}
        </svg>
      </div>
    </figure>
  );
}

type Scale = (at: number) => number;

function middle(lane: number): number {
  return TOP + LANE * lane + LANE / 2;
}

function Piece({ bar, x, until }: { bar: Bar; x: Scale; until: number }) {
  const [from, to] = [x(bar.from), x(bar.to ?? until)];
  const width = Math.max(to - from, 1.5);
  const took = duration(Math.max(0, (bar.to ?? until) - bar.from));
  const name = t(`history.${bar.phase}` as Text);
  const thin = bar.phase === "waiting" || bar.phase === "gap";
  const texts = [`${name} ${took}`, took].filter((text) => text.length * LETTER < width - 8);
  const y = middle(bar.lane);
  return (
    <g class={`piece ${bar.phase}`}>
      <title>{`${name}: ${took}`}</title>
      {thin ? (
        <line x1={from} x2={from + width} y1={y} y2={y} />
      ) : (
        <rect x={from} width={width} y={y - BAR / 2} height={BAR} rx={2} />
      )}
      {texts[0] && (
        <text x={from + width / 2} y={thin ? y - 7 : y + 4}>
          {texts[0]}
        </text>
      )}
    </g>
  );
}

/** Above the bars, where somebody went on: behind how many tokens. Those without room are left out. */
function Resumes({ drawn, x }: { drawn: History; x: Scale }) {
  const ends: number[] = [];
  return (
    <g class="resumes">
      {drawn.resumes.map(({ lane, at, tokens }) => {
        const text = t("history.behind", { tokens: number(tokens) });
        if (x(at) < (ends[lane] ?? 0)) return null;
        ends[lane] = x(at) + text.length * LETTER;
        return (
          <text key={at} x={x(at) + 3} y={middle(lane) - BAR / 2 - 4}>
            {text}
          </text>
        );
      })}
    </g>
  );
}

/** The sizes of the batch, as steps below the bars. */
function Sizes({ drawn, x, until }: { drawn: History; x: Scale; until: number }) {
  const most = Math.max(1, ...drawn.sizes.map((size) => size.batch));
  return (
    <g class="sizes">
      {drawn.sizes.map(({ lane, from, to, batch }, index) => {
        const height = Math.max(1, (batch / most) * 8);
        const width = Math.max(x(to ?? until) - x(from), 1);
        return (
          <rect key={index} x={x(from)} width={width} y={middle(lane) + BAR / 2 + 10 - height} height={height}>
            <title>{t("history.batch", { batch })}</title>
          </rect>
        );
      })}
    </g>
  );
}

/** Shapes, so that no mark is told by colour alone. */
const SHAPES: Record<Mark["what"], string> = {
  lost: "M-6-6 6 6M6-6-6 6",
  gave_way: "M-3-6V6M3-6V6",
  handed_over: "M-6 0H6M1-5 6 0 1 5",
  cancelling: "M0-6 6 0 0 6-6 0Z",
  completed: "M-6 0-2 5 7-6",
  failed: "M-6-6 6 6M6-6-6 6",
  cancelled: "M-5-5H5V5H-5Z",
};

function Sign({ mark, x }: { mark: Mark; x: number }) {
  return (
    <g class={`mark ${mark.what}`} transform={`translate(${x + 9} ${middle(mark.lane)})`}>
      <title>{t(`history.mark.${mark.what}` as Text)}</title>
      <path class="halo" d={SHAPES[mark.what]} />
      <path d={SHAPES[mark.what]} />
    </g>
  );
}

/** Times at even steps, as many as have room. */
function Axis({ span, x, height, room }: { span: number; x: Scale; height: number; room: number }) {
  const rough = span / Math.max(1, room / 90);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((one) => one * power >= rough) ?? 10);
  const times = Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
  return (
    <g class="axis">
      {times.map((at) => (
        <g key={at}>
          <line x1={x(at)} x2={x(at)} y1={TOP - 4} y2={height} />
          <text x={x(at)} y={TOP - 9} class={at ? "" : "first"}>
            {at ? duration(at) : "0"}
          </text>
        </g>
      ))}
    </g>
  );
}

function Legend({ drawn }: { drawn: History }) {
  const phases = [...new Set(drawn.bars.map((bar) => bar.phase))];
  return (
    <ul class="legend" aria-hidden="true">
      {phases.map((phase) => (
        <li key={phase}>
          <svg width="22" height="10" class={`piece ${phase}`}>
            {phase === "waiting" || phase === "gap" ? (
              <line x1="0" x2="22" y1="5" y2="5" />
            ) : (
              <rect x="1" y="1" width="20" height="8" rx="2" />
            )}
          </svg>
          {t(`history.${phase}` as Text)}
        </li>
      ))}
      {drawn.sizes.length > 0 && (
        <li>
          <svg width="22" height="10" class="sizes">
            <rect x="0" y="6" width="11" height="4" />
            <rect x="11" y="2" width="11" height="8" />
          </svg>
          {t("history.batchSize")}
        </li>
      )}
    </ul>
  );
}
