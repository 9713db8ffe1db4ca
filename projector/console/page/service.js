// Asks this projector. The token, if there is one, is kept for this tab only and goes out in the header alone.

const KEY = "projector-token";

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const keepToken = (token) => sessionStorage.setItem(KEY, token);
export const forgetToken = () => sessionStorage.removeItem(KEY);

/** Returns the answer's body; throws an Error that says in one sentence why there is none. */
export async function ask(path, { method = "GET", body, token = sessionStorage.getItem(KEY) } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Error("This projector does not answer.");
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  const error = new Error(found.detail ?? `${answer.status} ${answer.statusText}`);
  error.status = answer.status;
  throw error;
}

/** Follows the events for as long as the page is open. `on` has history, sight, open and lost. */
export function follow(on) {
  const source = new EventSource("events");
  let again = 0;
  const reconnect = (seconds) => {
    on.lost();
    source.close();
    clearTimeout(again);
    again = setTimeout(() => follow(on), seconds * 1000);
  };
  source.addEventListener("open", () => on.open());
  source.addEventListener("history", (event) => on.history(JSON.parse(event.data)));
  source.addEventListener("sight", (event) => on.sight(JSON.parse(event.data)));
  source.addEventListener("end", () => reconnect(1));
  source.addEventListener("error", () => reconnect(3));
}
