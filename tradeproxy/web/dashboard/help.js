// The help page: each reason for trouble, its cause and its remedy.

import { readChoices } from "./preferences.js";
import { REMEDIES } from "./remedies.js";
import { openStorage } from "./storage.js";
import { make } from "./text.js";

const { theme } = readChoices(openStorage("localStorage"));
document.documentElement.dataset.theme = String(theme ?? "");

const rows = REMEDIES.map(({ id, says, cause, remedy }) => {
  const reasons = says.map((reason) => make("div", "", make("code", "", reason)));
  const row = make("tr", "", make("td", "", ...reasons), make("td", "", cause));
  row.append(make("td", "", remedy));
  row.id = id;
  return row;
});
document.getElementById("remedies").replaceChildren(...rows);

/** Mark the row that the address names. */
function choose() {
  for (const row of rows) row.classList.toggle("chosen", `#${row.id}` === location.hash);
  document.querySelector(".chosen")?.scrollIntoView({ block: "center" });
}

addEventListener("hashchange", choose);
addEventListener("load", choose); // once the style sheet has given the rows their places
