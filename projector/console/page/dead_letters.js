// Dead letters: by error, each group opened into its messages, a message into its payload; retried or discarded.

import { confirmed, tell } from "./dialogs.js";
import { byId, element, nothing, prose, render } from "./elements.js";
import { ask } from "./service.js";
import { ago, count, plural } from "./words.js";

const ACTIONS = {
  retry: { word: "Retry", done: "put back into the outbox" },
  discard: { word: "Discard", done: "discarded" },
};

let access = { may_read: false, may_operate: false };
let groups = [];
let failure = "";
let loaded = false;
const opened = new Map(); // group -> { messages, next }

export function setAccess(now) {
  access = now;
  if (!access.may_read) opened.clear();
}

/** Asks for them anew: after an action, and when their number changed. */
export async function refresh() {
  if (!access.may_read) {
    groups = [];
    return show();
  }
  try {
    ({ groups } = await ask("api/dead-letters"));
    const there = new Set(groups.map(({ group }) => group));
    for (const group of opened.keys()) {
      if (there.has(group)) await open(group, Math.max(1, opened.get(group).messages.length));
      else opened.delete(group);
    }
    failure = "";
    loaded = true;
  } catch (error) {
    failure = error.message;
  }
  show();
}

export const anyShown = () => groups.length > 0;

/** Reads messages of a group, from its beginning, until there are `wanted`. */
async function open(group, wanted) {
  const messages = [];
  let after = 0;
  do {
    const page = await ask(`api/dead-letters/messages?group=${group}&after=${after}`);
    messages.push(...page.messages);
    after = page.next;
  } while (after && messages.length < wanted);
  opened.set(group, { messages, next: after });
}

function show() {
  const total = groups.reduce((sum, { number }) => sum + number, 0);
  const all = { body: { all: true }, what: `all ${plural(total, "dead letter")}` };
  render(byId("dead-letters-actions"), [access.may_operate, groups.length > 1, total],
    () => (access.may_operate && groups.length > 1 ? [button("retry", all, "all", " all"), button("discard", all, "all", " all")] : []));
  render(byId("dead-letters"), [access, loaded, failure, groups.map((row) => [row, ago(row.newest_seconds)]), [...opened]], () => {
    if (failure) return [nothing("They cannot be shown now.", failure)];
    if (!access.may_read) return [nothing("Sign in to see them.", "A token with scope `read` shows errors, one with `operate` payloads as well.")];
    if (!groups.length) return [loaded ? nothing("None.", "What fails for good comes here and waits; its neighbours go on.") : nothing("Looking.", "One moment.")];
    const list = element("ul", { className: "rows" }, groups.map(groupRow));
    return access.may_operate ? [list] : [list, element("p", { className: "nothing" }, prose(readOnly()))];
  });
}

const readOnly = () => (access.has_tokens
  ? "Payloads, retry and discard need a token with scope `operate`."
  : "Read only: without `TOKENS` nothing can be changed here, and payloads are hidden. `projector token NAME` makes one.");

function groupRow(row) {
  const isOpen = opened.has(row.group);
  const chosen = { body: { group: row.group }, what: plural(row.number, "dead letter") };
  const since = ago(row.oldest_seconds) === ago(row.newest_seconds) ? ago(row.newest_seconds) : `${ago(row.oldest_seconds)} until ${ago(row.newest_seconds)}`;
  const disclose = element("button", {
    type: "button", className: "button plain disclose", aria: { expanded: isOpen }, data: { key: `open-${row.group}` },
    onclick: () => toggle(row.group),
  }, isOpen ? "Hide messages" : `Show ${plural(row.number, "message")}`);
  return element("li", { className: "group" },
    element("div", { className: "group-head" },
      element("div", {},
        element("p", { className: "error-line", title: row.error }, row.error),
        element("p", { className: "facts" }, `${count(row.number)} × ${row.aggregate_types.join(", ")} · ${since}`)),
      access.may_operate ? element("div", { className: "actions" }, ["retry", "discard"].map((action) => button(action, chosen, row.group, row.number > 1 ? ` ${count(row.number)}` : ""))) : null),
    disclose,
    isOpen ? messageList(row.group, opened.get(row.group)) : null);
}

function messageList(group, { messages, next }) {
  const list = element("ul", { className: "messages" }, messages.map((message) => {
    const name = `${message.aggregate_type} ${message.aggregate_id}`;
    const chosen = { body: { ids: [message.id] }, what: `message ${message.id}, ${message.event_type} of ${name},` };
    return element("li", {},
      element("div", {},
        element("p", { className: "name" }, name, element("span", { className: "facts" }, `  version ${message.aggregate_version}`)),
        element("p", { className: "facts" }, `message ${message.id} · ${message.event_type} · ${plural(message.attempts, "attempt")} · ${ago(message.failed_seconds)}`)),
      access.may_operate ? element("div", { className: "actions" },
        element("button", { type: "button", className: "button", data: { key: `show-${message.id}` }, aria: { label: `Show message ${message.id}` }, onclick: () => showMessage(message.id) }, "Show"),
        ["retry", "discard"].map((action) => button(action, chosen, message.id))) : null);
  }));
  if (!next) return list;
  const more = element("button", { type: "button", className: "button more", data: { key: `more-${group}` }, onclick: () => guarded(async () => { await open(group, messages.length + 1); show(); }) }, "Show more");
  return element("div", {}, list, more);
}

function button(action, chosen, key, suffix = "") {
  const { word } = ACTIONS[action];
  return element("button", {
    type: "button", className: `button${action === "discard" ? " danger" : ""}`, data: { key: `${action}-${key}` },
    aria: { label: `${word} ${chosen.what.replace(/,$/, "")}` }, onclick: () => act(action, chosen),
  }, word + suffix);
}

async function act(action, { body, what }) {
  const { word, done } = ACTIONS[action];
  const text = action === "retry"
    ? "Put back into the outbox, with its attempts counted anew. What fails again comes back here: mend the cause first."
    : "Never applied. The read model goes on showing what it shows now, until the next change of the same aggregate, or a replay. This cannot be undone.";
  const named = what.replace(/,$/, "");
  if (!await confirmed({ title: `${word} ${named}?`, text, yes: word, isDangerous: action === "discard" })) return;
  await guarded(async () => {
    const { count: number } = await ask(`api/dead-letters/${action}`, { method: "POST", body });
    tell(number ? `${plural(number, "message was", "messages were")} ${done}.` : "Nothing was left to do: somebody else was quicker.");
    await refresh();
    // What had the focus may be gone with what was acted on.
    if (document.activeElement === document.body) byId("dead-letters-title").focus();
  });
}

async function toggle(group) {
  if (opened.delete(group)) return show();
  await guarded(async () => { await open(group, 1); show(); });
}

async function showMessage(id) {
  await guarded(async () => {
    const message = await ask(`api/dead-letters/messages/${id}`);
    byId("message-title").textContent = `${message.event_type}, message ${message.id}`;
    const facts = {
      Aggregate: `${message.aggregate_type} ${message.aggregate_id}, version ${message.aggregate_version}`,
      Written: ago(message.created_seconds),
      Failed: `${ago(message.failed_seconds)}, after ${plural(message.attempts, "attempt")}`,
      ...(message.request_id ? { Request: message.request_id } : {}),
    };
    byId("message-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    byId("message-error").textContent = message.error;
    byId("message-payload").textContent = JSON.stringify(message.payload, null, 2);
    byId("message").showModal();
    byId("message-close").focus();
  });
}

async function guarded(work) {
  try {
    await work();
  } catch (error) {
    tell(error.message, "bad");
    if (error.status === 404) await refresh();
  }
}

byId("message-close").addEventListener("click", () => byId("message").close());
