// The page: every button says what it does with data-do; what comes from the server is made ready as it arrives.
import * as bar from "./bar.js";
import * as cut from "./cut.js";
import * as drawing from "./drawing.js";
import * as drop from "./drop.js";
import * as filters from "./filters.js";
import * as grid from "./grid.js";
import * as ingest from "./ingest.js";
import * as keyboard from "./keyboard.js";
import * as locate from "./locate.js";
import * as map from "./map.js";
import * as navigation from "./navigation.js";
import * as panel from "./panel.js";
import * as player from "./player.js";
import * as preferences from "./preferences.js";
import * as recorder from "./recorder.js";
import * as saved from "./saved.js";
import * as selection from "./selection.js";
import * as signal from "./signal.js";
import * as upload from "./upload.js";

const like = (weight) => (element) =>
  bar.search({ source: `item:${element.closest("[data-id]").dataset.id}`, weight });

/** Close what is open, the innermost first. */
function escape() {
  const menu = document.querySelector(".menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else if (!document.querySelector("dialog:modal")) selection.clear();
}

const actions = {
  ...bar.actions, ...drawing.actions, ...locate.actions, ...panel.actions, ...player.actions, ...preferences.actions, ...recorder.actions,
  ...saved.actions, ...selection.actions, ...map.actions, "more-like": like(1), "less-like": like(-1), escape,
};

function prepare(changes) {
  if (!changes.some(({ addedNodes }) => [...addedNodes].some((node) => node.nodeType === Node.ELEMENT_NODE))) return;
  refresh();
}

function refresh() {
  preferences.apply();
  cut.mark();
  cut.labels();
  grid.layAll();
  player.draw();
  selection.show();
  signal.draw();
  map.draw();
}

document.addEventListener("click", (event) => {
  const element = event.target.closest?.("[data-do]");
  if (element) actions[element.dataset.do](element, event);
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

for (const module of [bar, cut, drawing, drop, filters, grid, ingest, map, panel, player, preferences, recorder, saved, selection, upload]) {
  module.start();
}
keyboard.start(actions);
refresh();
new MutationObserver(prepare).observe(document.getElementById("view"), { childList: true, subtree: true });
new MutationObserver(prepare).observe(document.getElementById("panel"), { childList: true, subtree: true });
navigation.start();
