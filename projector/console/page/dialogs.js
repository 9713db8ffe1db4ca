// Asks before something is done. Esc and Cancel mean no; the focus returns to where it was.

import { byId } from "./elements.js";

/** Returns a promise of whether the operator said yes. */
export function confirmed({ title, text, yes, isDangerous }) {
  const dialog = byId("confirm");
  const button = byId("confirm-yes");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  button.textContent = yes;
  button.classList.toggle("danger", isDangerous);
  dialog.returnValue = "";
  dialog.showModal();
  // What cannot be undone is not one key away.
  (isDangerous ? byId("confirm-no") : button).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

byId("confirm-yes").addEventListener("click", () => byId("confirm").close("yes"));
byId("confirm-no").addEventListener("click", () => byId("confirm").close(""));

let fading = 0;

/** Says for some seconds what was done, or why it was not. */
export function tell(text, tone = "good") {
  const toast = byId("toast");
  toast.textContent = text;
  toast.dataset.tone = tone;
  toast.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { toast.hidden = true; }, 6000);
}
