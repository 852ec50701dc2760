// The justified grid: rows of one height, of which every tile's place is known before its picture.
import justified from "./vendor/justified-layout/justified-layout.esm.js";
import { t } from "./texts.js";

const GAP = 12;
const CAPTION = 26; // of page.css
const SCORES = 18;
const LINE = 27; // of a text, at most
const AHEAD = 900; // pixels before the end, where more tiles are requested

const rowHeight = (width) => Math.min(250, Math.max(140, 112 + 0.075 * width));

function lay(grid) {
  const width = grid.clientWidth;
  if (!width) return;
  const below = CAPTION + (document.body.classList.contains("with-scores") && grid.querySelector(".scores") ? SCORES : 0);
  const is_hiding = grid.dataset.beyond === "hide";
  const tiles = [...grid.children].filter((tile) => tile.matches(".tile") && !(is_hiding && tile.classList.contains("beyond")));
  const ratios = tiles.map((tile) => Number(tile.dataset.ratio));
  const { boxes, bottom } = "single" in grid.dataset ? stack(ratios, width, below) : rows(ratios, width, below);
  tiles.forEach((tile, at) => {
    const { left, top, width, height } = boxes[at];
    Object.assign(tile.style, { left: `${left}px`, top: `${top}px`, width: `${width}px` });
    tile.style.setProperty("--height", `${height}px`);
    tile.style.setProperty("--lines", Math.max(1, Math.floor((height - 24) / LINE)));
  });
  const next = grid.querySelector(":scope > .next");
  if (next) Object.assign(next.style, { top: `${Math.max(0, bottom - AHEAD)}px`, height: `${AHEAD + 64}px` });
  grid.style.height = `${bottom + (next ? 64 : 0)}px`;
  grid.dataset.laid = "";
}

function rows(ratios, width, below) {
  const { boxes, containerHeight } = justified(ratios, {
    containerWidth: width,
    containerPadding: 0,
    boxSpacing: { horizontal: GAP, vertical: below + GAP },
    targetRowHeight: rowHeight(width),
    targetRowHeightTolerance: 0.25,
  });
  return { boxes, bottom: containerHeight + below + GAP };
}

function stack(ratios, width, below) {
  let top = 0;
  const boxes = ratios.map((ratio) => {
    const box = { left: 0, top, width, height: width / Math.max(ratio, 0.8) };
    top += box.height + below + GAP;
    return box;
  });
  return { boxes, bottom: top };
}

export function layAll() {
  for (const grid of document.querySelectorAll(".grid")) lay(grid);
}

/** Say that there is no preview, where a picture cannot be loaded: its file has changed, or is gone. */
function unseen(image) {
  const shown = image.matches(".well img") ? image : image.closest("#panel .zoom");
  shown?.replaceWith(Object.assign(document.createElement("span"), { className: "unseen", textContent: t("tile.unseen") }));
}

export function start() {
  document.addEventListener("error", ({ target }) => { if (target.tagName === "IMG") unseen(target); }, true);
  for (const image of document.images) if (image.complete) image.decode().catch(() => unseen(image)); // before this script
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = contentRect.width;
    layAll();
  }).observe(document.getElementById("view"));
}
