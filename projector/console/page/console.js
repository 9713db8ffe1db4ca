// The page: follows what this projector sees, and lets whoever has a token in.

import * as deadLetters from "./dead_letters.js";
import { byId, say } from "./elements.js";
import { drawCharts, showHistory, showSight, showVerdict } from "./overview.js";
import { ask, follow, forgetToken, hasToken, keepToken } from "./service.js";

const REFRESH_MILLISECONDS = 10_000;

let access = { lag_degraded_seconds: Infinity, has_tokens: false, may_read: false, may_operate: false };
let deadBefore;

function connection(text, tone) {
  say("connection", text);
  byId("connection").dataset.tone = tone;
}

async function learnAccess() {
  try {
    access = await ask("api/access");
  } catch (error) {
    if (error.status !== 401) return;
    forgetToken();
    access = await ask("api/access");
  }
  const signedIn = access.name ? ` Signed in as ${access.name}.` : "";
  say("served-by", `Served by ${access.projector.replace(/^kata-projector /, "")}, version ${access.version}. Every projector shows the same.${signedIn}`);
  const button = byId("sign-in");
  button.hidden = !access.has_tokens;
  button.textContent = access.name ? "Sign out" : "Sign in";
  deadLetters.setAccess(access);
  await deadLetters.refresh();
}

// Not behind an open dialog: what is to have the focus afterwards must still be there.
function refreshDeadLetters() {
  if (!document.querySelector("dialog[open]")) deadLetters.refresh();
}

// Ages go on, and others may have acted.
setInterval(() => {
  if (document.visibilityState === "visible" && (deadBefore || deadLetters.anyShown())) refreshDeadLetters();
}, REFRESH_MILLISECONDS);

follow({
  open() {
    connection("Live", "good");
    learnAccess().catch(() => {});
  },
  history: showHistory,
  sight(sight) {
    showSight(sight, access);
    const dead = sight.overview?.dead_letters;
    if (dead !== undefined && deadBefore !== undefined && dead !== deadBefore) refreshDeadLetters();
    deadBefore = dead ?? deadBefore;
  },
  lost() {
    connection("Reconnecting", "warn");
    document.body.classList.add("stale");
    showVerdict([["warn", "This projector does not answer", "What is shown is what was known before. Another projector shows the same."]]);
  },
});

byId("sign-in").addEventListener("click", async () => {
  if (hasToken()) {
    forgetToken();
    await learnAccess();
    return;
  }
  byId("token-form").reset();
  say("token-error", "");
  byId("token").showModal();
  byId("token-input").focus();
});

byId("token-cancel").addEventListener("click", () => byId("token").close());

byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = byId("token-input").value.trim();
  try {
    await ask("api/access", { token });
  } catch (error) {
    say("token-error", error.status === 401 ? "This token is not good here." : error.message);
    byId("token-input").select();
    return;
  }
  keepToken(token);
  byId("token").close();
  await learnAccess();
});

new ResizeObserver(drawCharts).observe(byId("lag-chart"));
