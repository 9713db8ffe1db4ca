// The installation as it is: figures, charts, projectors, replays, drift.

import { draw } from "./chart.js";
import { byId, element, nothing, prose, render, say } from "./elements.js";
import { findings } from "./verdict.js";
import { ago, count, duration, milliseconds, plural, rate, whole } from "./words.js";

const KINDS = ["missing", "stale", "orphaned", "different"];
const STATES = { "at work": "good", silent: "warn", ended: "quiet" };
const REPLAY_TONES = { done: "good", failed: "bad", cancelled: "quiet" };
const MOST_POINTS = 180;

let points = [];

const sentence = (text) => text[0].toUpperCase() + text.slice(1);
const pill = (text, tone) => element("span", { className: "pill", data: { tone } }, text);

/** Begins with what this projector has noted before anybody here looked. */
export function showHistory(history) {
  points = history;
}

/** Shows what was seen. */
export function showSight(sight, access) {
  showVerdict(findings(sight, access));
  document.body.classList.toggle("stale", !sight.overview);
  if (!sight.overview) return;
  const { overview, throughput } = sight;
  const [lag, unit] = duration(overview.lag_seconds);
  say("lag", lag);
  say("lag-unit", unit);
  say("throughput", throughput === null ? "–" : rate(throughput));
  say("backlog", count(overview.backlog));
  say("retrying", count(overview.failures));
  say("dead", count(overview.dead_letters));
  byId("dead-card").dataset.tone = overview.dead_letters ? "warn" : "quiet";
  note([Date.parse(overview.at) / 1000, overview.lag_seconds, throughput, overview.backlog]);
  drawCharts();
  render(byId("projectors"), overview.projectors.map(projectorShown), () => projectors(overview.projectors));
  render(byId("replays"), overview.replays.map((row) => [row, ago(row.idle_seconds)]), () => replays(overview.replays));
  render(byId("drift"), overview.drift.map((row) => [row, ago(row.age_seconds)]), () => drift(overview.drift));
}

/** Remembers a point, unless it is the one before told again. */
function note(point) {
  if (points.at(-1)?.[0] !== point[0]) points = [...points, point].slice(-MOST_POINTS);
}

export function drawCharts() {
  draw(byId("lag-chart"), points.map(([at, lag]) => [at, lag]), (value) => duration(value).join(" "), "Lag");
  draw(byId("throughput-chart"), points.map(([at, , settled]) => [at, settled]), (value) => `${rate(value)}/s`, "Throughput");
}

/** Shows findings: the gravest in large, what else there is below it. */
export function showVerdict([[tone, title, detail], ...others]) {
  byId("verdict").dataset.tone = tone;
  say("verdict-title", sentence(title));
  const also = others.filter(([other]) => other !== "good").map(([, text]) => text);
  const text = sentence(also.length ? `${detail} Also: ${also.join("; ")}.` : detail);
  render(byId("verdict-detail"), text, () => prose(text));
  document.title = tone === "good" || tone === "info" ? "Projector" : `${title} – Projector`;
}

const projectorShown = (row) => [row.name, row.state, ago(row.heartbeat_age_seconds), row.settled, row.batch_seconds];

function projectors(rows) {
  if (!rows.length) return [nothing("None has been at work for an hour.", "Start one: `projector run`")];
  return [element("ul", { className: "rows" }, rows.map((row) => {
    const facts = [`heard of ${ago(row.heartbeat_age_seconds)}`, `${count(row.settled)} settled`];
    if (row.batch_seconds !== null) facts.push(`last batch ${milliseconds(row.batch_seconds)}`);
    return element("li", { className: row.state },
      element("div", { className: "line" }, element("span", { className: "name" }, row.name.replace(/^kata-projector /, "")), pill(row.state, STATES[row.state])),
      element("p", { className: "facts" }, facts.join(" · ")));
  }))];
}

function replays(rows) {
  if (!rows.length) return [nothing("None yet.", "A replay rebuilds a read model while everything goes on.")];
  return [element("ul", { className: "rows" }, rows.map((row) => {
    const name = element("span", { className: "name" }, `${row.aggregate_type}s`);
    if (!row.is_at_work) {
      return element("li", {},
        element("div", { className: "line" }, name, pill(row.state, REPLAY_TONES[row.state] ?? "info")),
        element("p", { className: "facts" }, `${ago(row.idle_seconds)} · ${plural(row.copied, "row")} in ${duration(row.seconds).join(" ")}`,
          row.error ? element("span", { className: "bad" }, ` · ${row.error}`) : null));
    }
    const share = row.expected ? Math.min(1, row.copied / row.expected) : 1;
    const title = `Replay of ${row.aggregate_type}s`;
    const facts = [`${count(row.copied)} of ${plural(row.expected, "row")}`, `${whole(row.seconds)} so far`];
    if (row.copied && share < 1) facts.push(`about ${whole((row.seconds * (1 - share)) / share)} left`);
    if (row.idle_seconds > 30) facts.push(`has not moved for ${whole(row.idle_seconds)}`);
    return element("li", {},
      element("div", { className: "line" }, name, pill(`${row.state} ${Math.floor(share * 100)} %`, "info")),
      element("progress", { max: 1, value: share, aria: { label: title } }),
      element("p", { className: "facts" }, facts.join(" · ")));
  }))];
}

function drift(rows) {
  if (!rows.length) return [nothing("Never compared.", "`projector verify` compares both sides.")];
  return [element("ul", { className: "rows" }, rows.map((row) => {
    const kinds = KINDS.filter((kind) => row[kind]).map((kind) => `${count(row[kind])} ${kind}`);
    const compared = `${count(row.compared)} compared${row.kind === "sample" ? " in a sample" : ""}`;
    return element("li", {},
      element("div", { className: "line" }, element("span", { className: "name" }, `${row.aggregate_type}s`), pill(kinds.join(", ") || "none", kinds.length ? "bad" : "good")),
      element("p", { className: "facts" }, `${compared} · ${ago(row.age_seconds)}`));
  }))];
}
