// Tiles that are chosen: their paths are copied or exported, or they become parts of the query.
import { search } from "./bar.js";
import { announce, say } from "./message.js";
import { t } from "./texts.js";

const bar = document.getElementById("selection");
const chosen = new Map(); // id -> what is known of it
let last = null;
let is_selecting = false; // boxes are shown though none is checked, as touch screens need

const tiles = () => [...document.querySelectorAll("#results .tile")];

/** Choose an item, or not. */
export function choose({ id, path = "", kind = "", name = "" }, is_on = true) {
  if (is_on) chosen.set(id, { id: Number(id), kind, name, path });
  else chosen.delete(id);
}

/** Show what is chosen. */
export function show() {
  for (const tile of tiles()) {
    const is_on = chosen.has(tile.dataset.id);
    tile.classList.toggle("picked", is_on);
    tile.querySelector(".pick").checked = is_on;
  }
  const text = chosen.size ? t("selection.count", { n: chosen.size }) : "";
  bar.hidden = !chosen.size;
  bar.querySelector(".chosen").textContent = text;
  document.body.classList.toggle("selecting", chosen.size > 0 || is_selecting);
  document.querySelector('[data-do="select"]')?.setAttribute("aria-pressed", is_selecting);
}

function pick(tile, is_on, is_range) {
  const all = tiles();
  const from = is_range && last?.isConnected ? all.indexOf(last) : all.indexOf(tile);
  const [first, end] = [from, all.indexOf(tile)].sort((a, b) => a - b);
  for (const each of all.slice(first, end + 1)) choose(each.dataset, is_on);
  last = tile;
  show();
  announce(bar.querySelector(".chosen").textContent);
}

export function clear() {
  chosen.clear();
  is_selecting = false;
  show();
}

/** A cell of CSV; one that a spreadsheet would run as a formula is a text. */
const cell = (value) => `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export function start() {
  document.addEventListener("click", (event) => {
    const tile = event.target.closest("#results .tile");
    if (!tile) return;
    if (event.target.matches(".pick")) pick(tile, event.target.checked, event.shiftKey);
    else if (event.target.closest(".open") && (event.shiftKey || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      pick(tile, event.shiftKey || !chosen.has(tile.dataset.id), event.shiftKey);
    }
  }, true);
}

export const actions = {
  clear,
  select() {
    is_selecting = !is_selecting;
    show();
  },
  toggle: (tile) => pick(tile, !chosen.has(tile.dataset.id), false),
  async copy() {
    const paths = [...chosen.values()].map(({ path }) => path).join("\n");
    await navigator.clipboard.writeText(paths).then(() => say(t("copied")), () => say(t("copy.failed")));
  },
  "export-json": () => save("xsearch.json", "application/json", JSON.stringify([...chosen.values()], null, 1)),
  "export-csv": () => {
    const rows = [...chosen.values()].map((each) => Object.values(each).map(cell).join(","));
    save("xsearch.csv", "text/csv", ["id,kind,name,path", ...rows].join("\r\n"));
  },
  add() {
    const parts = [...chosen.keys()].map((id) => ({ source: `item:${id}`, weight: 1 }));
    clear();
    search(...parts);
  },
};
