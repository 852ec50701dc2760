// The cut-off: hits that would be as near by chance are dimmed or hidden. In numbers: see address.py.
import { address, changed } from "./address.js";
import { go, note, reload } from "./navigation.js";
import { t } from "./texts.js";

const NONE = 2.05; // of the slider, whose value is the logarithm; above there is no limit
const DEFAULT = 1;

const bounds = () =>
  new Map(address().getAll("cut").map((each) => each.split(":")).map(([kind, bound]) => [kind, Number(bound)]));

/** Mark the tiles that are beyond the cut. */
export function mark() {
  const cut = bounds();
  for (const tile of document.querySelectorAll(".tile[data-expected]")) {
    const bound = cut.get(tile.dataset.kind) ?? cut.get("all") ?? DEFAULT;
    tile.classList.toggle("beyond", Number(tile.dataset.expected) > bound);
  }
  const remark = document.querySelector(".all-beyond");
  const tiles = document.querySelectorAll("#results .tile");
  if (remark) {
    const is_other = document.querySelector(".remark:not(.all-beyond)") !== null;
    remark.hidden = is_other || !tiles.length || [...tiles].some((tile) => !tile.classList.contains("beyond"));
  }
}

function label(input) {
  const value = Number(input.value);
  const bound = value > NONE ? t("cut.none") : value < 1 ? `≤ ${(10 ** value).toPrecision(1)}` : `≤ ${Math.round(10 ** value)}`;
  const output = input.parentElement.querySelector("output");
  if (output.value !== bound) output.value = bound;
  input.setAttribute("aria-valuetext", bound);
}

export function labels() {
  for (const input of document.querySelectorAll("#cut input[type=range]")) label(input);
}

function move(input) {
  const cut = bounds();
  const value = Number(input.value);
  cut.set(input.dataset.kind, value > NONE ? Infinity : Number((10 ** value).toPrecision(2)));
  input.dataset.set = "";
  if (input.dataset.kind === "all") {
    for (const other of document.querySelectorAll("#cut input[type=range]:not([data-set])")) {
      other.value = input.value;
      label(other);
    }
  }
  label(input);
  note(changed({ cut: [...cut].map(([kind, bound]) => `${kind}:${bound === Infinity ? "inf" : bound}`) }));
  mark();
}

/** A stricter or a wider cut for all kinds. */
export function step(by) {
  const input = document.querySelector('#cut input[data-kind="all"]');
  if (!input) return;
  input.value = Number(input.value) + by;
  move(input);
  settle();
}

/** What is hidden, and the best in the order of their dates, is for the server to choose. */
function settle() {
  const is_dimmed = document.querySelector('.grid[data-beyond="dim"]') && !address().has("sort");
  if (!is_dimmed) reload();
}

export function start() {
  document.addEventListener("input", (event) => {
    if (event.target.matches("#cut input[type=range]")) move(event.target);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("#cut input[type=range]")) settle();
    if (event.target.name === "beyond") go(changed({ beyond: event.target.value === "hide" ? "hide" : null }), { replace: true });
  });
}
