// Dragging: files from outside, and tiles of the results, onto "more like this" or "less like this".
import { search } from "./bar.js";
import { use } from "./upload.js";

const ITEM = "application/x-xsearch-item";
const zones = document.getElementById("drop");
let timer;
const takes = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === ITEM);

function end() {
  clearTimeout(timer);
  zones.hidden = true;
  for (const zone of zones.children) zone.classList.remove("over");
}

export function start() {
  document.addEventListener("dragstart", (event) => {
    const tile = event.target.closest?.(".tile[data-id]");
    if (!tile) return;
    event.dataTransfer.setData(ITEM, tile.dataset.id);
    event.dataTransfer.setData("text/plain", tile.dataset.path);
    event.dataTransfer.effectAllowed = "copy";
    timer = setTimeout(() => { zones.hidden = false; }); // shown at once, it would end the drag
  });
  document.addEventListener("dragend", end);
  document.addEventListener("dragenter", (event) => { if (takes(event)) zones.hidden = false; });
  document.addEventListener("dragover", (event) => {
    if (!takes(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    for (const zone of zones.children) zone.classList.toggle("over", zone === event.target);
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) end(); });
  document.addEventListener("drop", (event) => {
    if (!takes(event)) return;
    event.preventDefault();
    const weight = Number(event.target.closest(".zone")?.dataset.sign ?? 1);
    const { files } = event.dataTransfer;
    const id = event.dataTransfer.getData(ITEM);
    end();
    if (files.length) use(files, weight);
    else if (id) search({ source: `item:${id}`, weight });
  });
}
