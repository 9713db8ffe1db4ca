// What the numbers come to, in one line: the worst first.

import { duration, plural } from "./words.js";

/** Returns every finding as [tone, title, detail], the gravest first; never none. */
export function findings(sight, access) {
  const { overview, postgres_fault: postgres, mongo_fault: mongo } = sight;
  const found = [];
  const add = (when, ...finding) => when && found.push(finding);
  add(postgres, "bad", "PostgreSQL does not answer", `${postgres}. What is shown below is what was known before.`);
  add(mongo, "bad", "MongoDB does not answer", `${mongo}. Writes are accepted and become visible once it is back.`);
  if (overview) {
    const working = overview.projectors.filter((projector) => projector.state === "at work");
    const silent = overview.projectors.filter((projector) => projector.state === "silent");
    const drift = overview.drift.reduce((sum, row) => sum + row.missing + row.stale + row.orphaned + row.different, 0);
    const replay = overview.replays.find((row) => row.is_at_work);
    const lag = duration(overview.lag_seconds).join(" ");
    add(!working.length, "bad", "No projector is at work", `${plural(overview.backlog, "message waits", "messages wait")} and no write becomes visible. Start one: \`projector run\`.`);
    add(drift, "bad", `${plural(drift, "document differs", "documents differ")} from the write model`, "`projector verify --repair` mends what it finds.");
    add(overview.dead_letters, "warn", `${plural(overview.dead_letters, "dead letter waits", "dead letters wait")} for you`, "Mend the cause, then retry; or discard what shall never be applied.");
    add(working.length && overview.lag_seconds >= access.lag_degraded_seconds, "warn", `Reads are ${lag} behind`, `${plural(overview.backlog, "message is", "messages are")} on the way.`);
    add(silent.length, "warn", `${plural(silent.length, "projector has", "projectors have")} fallen silent`, `${silent.map((projector) => projector.name).join(", ")} ended without saying so, or hangs.`);
    add(overview.failures, "info", `${plural(overview.failures, "message is", "messages are")} being tried again`, "They failed, and come again by themselves.");
    add(replay, "info", `a replay of ${replay?.aggregate_type}s is at work`, "Readers and writers go on meanwhile.");
    add(overview.backlog && working.length, "good", `${plural(overview.backlog, "message is", "messages are")} on the way`, `The oldest was written ${lag} ago.`);
  }
  if (!found.length) found.push(["good", "Everything is settled", `Every write can be read. ${plural(overview.projectors.filter((row) => row.state === "at work").length, "projector is", "projectors are")} at work.`]);
  return found;
}
