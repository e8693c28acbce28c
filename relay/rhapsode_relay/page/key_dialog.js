// Asks for the key of a relay that wants one. The key stays in this tab. `page` calls it.

import { keys } from "./calling.js";
import { say } from "./writing.js";

/** Lets `keys` ask a person. `banner` stays when they do not answer at once. */
export function askForKeys({ dialog, form, input, why, later, banner, open, forget }) {
  const show = () => {
    banner.hidden = true;
    if (!dialog.open) dialog.showModal();
  };
  const offer = () => {
    forget.hidden = keys.current === "";
  };
  keys.onWanted = (refused) => {
    say(why, refused ? "That key does not open this relay." : "");
    if (banner.hidden) show();
    offer();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(key)) return say(why, "A key is made of letters, digits and signs, without spaces.");
    input.value = "";
    dialog.close();
    banner.hidden = true;
    keys.give(key);
    return offer();
  });
  later.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    banner.hidden = keys.waiting.size === 0;
  });
  open.addEventListener("click", show);
  forget.addEventListener("click", () => {
    keys.give("");
    offer();
  });
  offer();
}
