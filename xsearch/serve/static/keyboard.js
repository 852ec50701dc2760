// One key for each thing to do, unless something is being typed.
import { step } from "./cut.js";
import { hasKeys } from "./preferences.js";

const SHORTCUTS = { c: "scores", f: "filters", t: "theme", "?": "help" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The tile in a direction from another one: in its row the next, else the nearest in the row beyond. */
function neighbour(tile, [dx, dy]) {
  const tiles = [...document.querySelectorAll("#results .tile")].filter((each) => each.offsetParent);
  if (dx) return tiles[tiles.indexOf(tile) + dx];
  const from = tile.getBoundingClientRect();
  const x = from.left + from.width / 2;
  const beyond = tiles.filter((each) => dy * (each.getBoundingClientRect().top - from.top) > 8);
  const distance = (each) => {
    const { left, width, top } = each.getBoundingClientRect();
    return Math.abs(left + width / 2 - x) + 4 * Math.abs(top - from.top);
  };
  return beyond.sort((a, b) => distance(a) - distance(b))[0];
}

function move(event) {
  const tile = event.target.closest?.("#results .tile") ?? null;
  const next = tile ? neighbour(tile, ARROWS[event.key]) : document.querySelector("#results .tile");
  if (!next) return;
  event.preventDefault();
  next.querySelector(".open").focus();
  next.scrollIntoView({ block: "nearest" });
}

const press = (name) => document.querySelector(`[data-do="${name}"]`)?.click();

export function start(actions) {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (key === "Escape") return actions.escape(event);
    if (key === "ArrowDown" && target.id === "q") return move(event);
    if (target.closest("input:not(.pick), textarea, select, video, #map canvas") || document.querySelector("dialog:modal")) {
      return;
    }
    if (key in ARROWS && !target.closest("summary, .sheet")) return move(event);
    if (!hasKeys()) return;
    const tile = target.closest("#results .tile");
    if (key === "/") {
      event.preventDefault();
      document.getElementById("q").select();
    } else if (key === "[" || key === "]") step(key === "[" ? -0.5 : 0.5);
    else if (key === "m") document.querySelector('.switch a[href*="view=map"]')?.click();
    else if (key in SHORTCUTS) press(SHORTCUTS[key]);
    else if (tile && key === "o") tile.querySelector(".open").click();
    else if (tile && key === "s") tile.querySelector("a.act").click();
    else if (tile && key === "x") actions.toggle(tile);
    else if (tile && key === "+") actions["more-like"](tile);
    else if (tile && (key === "-" || key === "−")) actions["less-like"](tile);
  });
}
