// The map of the collection: what is alike is near; near enough, pictures take the place of points.
import { changed } from "./address.js";
import { say } from "./message.js";
import { go } from "./navigation.js";
import { Plane } from "./plane.js";
import * as selection from "./selection.js";
import { t } from "./texts.js";

const PICTURES = 60; // at most so many on the canvas become pictures
const SIDE = 72; // of a picture, CSS pixels
const AGAIN_MS = 3000; // until a better map that is being computed is asked for
const maps = new WeakMap(); // of the places that have been drawn: "back" shows them again
let now = null; // the map that is shown

export function draw() {
  const place = document.getElementById("map");
  if (!place || (now?.place === place && !now.is_outdated)) return;
  now = maps.get(place) ?? begin(place);
  if (now.is_outdated) load(now);
}

function begin(place) {
  const map = { place, plane: new Plane(place.querySelector("canvas")), points: null, lasso: null, is_lassoing: false, query: null };
  maps.set(place, map);
  listen(map);
  new ResizeObserver(() => { map.plane.fit(); paint(map); }).observe(place);
  load(map);
  return map;
}

/** Get the points; once more while the server computes better ones. */
async function load(map) {
  map.is_outdated = false;
  const answer = await fetch(map.place.dataset.url).catch(() => null);
  if (!answer?.ok) return say(answer ? (await answer.json()).detail : t("problem.offline"));
  const points = await answer.json();
  if (points.generation !== map.points?.generation) map.plane.chosen = new Set(); // which are indices
  Object.assign(map, { points, pictures: new Map(), names: new Map() });
  Object.assign(map.plane, { x: points.x, y: points.y, kind: points.kind });
  paint(map);
  locate(map);
  note(map);
  if (points.pending) setTimeout(() => { map.is_outdated = true; draw(); }, AGAIN_MS);
}

/** Say what can be done with the map, and what is happening to it. */
function note({ place, points, is_lassoing }) {
  place.querySelector(".note").textContent =
    t(is_lassoing ? "map.lasso.note" : points.pending ? "map.pending" : "map.note");
}

/** Ask where the query lies. */
async function locate(map) {
  const parts = JSON.parse(map.place.dataset.parts);
  if (!parts.length) return;
  const answer = await fetch(`/v1/map/position${map.place.dataset.asked}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ parts }),
  }).catch(() => null);
  if (!answer?.ok) return;
  map.query = await answer.json();
  paint(map);
}

function rgb(text) {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = text;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function paint(map) {
  const { place, plane, points, lasso, query } = map;
  if (!points || !place.isConnected || !plane.canvas.width) return;
  const style = (name) => {
    const probe = place.querySelector(`.legend .${name} .dot`) ?? place;
    return rgb(getComputedStyle(probe).backgroundColor);
  };
  const ink = getComputedStyle(place).color;
  plane.draw(points.kinds.map(style), rgb(getComputedStyle(place.querySelector(".accent")).color));
  const { pen } = plane;
  const ratio = plane.canvas.width / plane.canvas.clientWidth;
  for (const i of plane.visible(PICTURES) ?? []) picture(map, i, ratio);
  if (query) {
    const [left, top] = plane.project(query.x, query.y);
    pen.strokeStyle = pen.fillStyle = ink;
    pen.lineWidth = 2 * ratio;
    pen.beginPath();
    pen.arc(left, top, 9 * ratio, 0, 2 * Math.PI);
    pen.moveTo(left, top - 15 * ratio);
    pen.lineTo(left, top - 9 * ratio);
    pen.moveTo(left, top + 9 * ratio);
    pen.lineTo(left, top + 15 * ratio);
    pen.stroke();
    pen.font = `600 ${12 * ratio}px Inter, sans-serif`;
    const is_right = left + 16 * ratio + pen.measureText(t("map.query")).width > plane.canvas.width;
    pen.textAlign = is_right ? "right" : "left";
    pen.fillText(t("map.query"), left + (is_right ? -16 : 16) * ratio, top + 4 * ratio);
  }
  if (lasso?.length > 1) {
    pen.strokeStyle = ink;
    pen.lineWidth = 1.5 * ratio;
    pen.beginPath();
    for (const point of lasso) pen.lineTo(...plane.project(...point));
    pen.stroke();
  }
}

const drawn = new Set(["image", "video", "depth", "thermal"]);

function picture(map, i, ratio) {
  const { plane, points, pictures } = map;
  if (!drawn.has(points.kinds[points.kind[i]])) return;
  if (!pictures.has(i)) {
    const image = new Image();
    pictures.set(i, image);
    image.addEventListener("load", () => again(map));
    image.src = preview(map, i, 128);
  }
  const image = pictures.get(i);
  if (!image.naturalWidth) return;
  const side = (SIDE * ratio) / Math.max(image.naturalWidth, image.naturalHeight);
  const [width, height] = [image.naturalWidth * side, image.naturalHeight * side];
  const [left, top] = plane.project(points.x[i], points.y[i]);
  plane.pen.drawImage(image, left - width / 2, top - height / 2, width, height);
}

/** Paint once for all that has happened until the next frame. */
function again(map) {
  map.frame ??= requestAnimationFrame(() => { map.frame = null; paint(map); });
}

const preview = ({ place, points }, i, size) =>
  `/v1/items/${points.id[i]}/preview?${new URLSearchParams({ size, ...Object.fromEntries(new URLSearchParams(place.dataset.asked)) })}`;

function hover(map, i, event) {
  const box = map.place.querySelector(".hover");
  box.hidden = i === null;
  map.place.querySelector("canvas").style.cursor = i === null ? "" : "pointer";
  if (i === null) return void (map.under = null);
  const kind = map.points.kinds[map.points.kind[i]];
  const image = box.querySelector("img");
  const source = preview(map, i, 256);
  image.hidden = kind === "text";
  if (kind !== "text" && image.getAttribute("src") !== source) image.src = source;
  box.querySelector("span").textContent = map.names.get(i) ?? t(`kind.one.${kind}`);
  if (map.under !== i) name(map, i, box);
  map.under = i;
  const left = Math.min(event.offsetX + 16, map.place.clientWidth - 216);
  const top = Math.min(event.offsetY + 16, map.place.clientHeight - 200);
  box.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}

/** What an item is called, or what it says, once the pointer rests on it. */
async function name(map, i, box) {
  await new Promise((rest) => setTimeout(rest, 120));
  const { names, points } = map;
  if (map.under !== i || names.has(i)) return;
  const answer = await fetch(`/v1/items/${points.id[i]}${map.place.dataset.asked}`).catch(() => null);
  if (!answer?.ok) return;
  const item = await answer.json();
  names.set(i, item.modality === "text" ? item.text : item.name);
  if (map.under === i && map.names === names) box.querySelector("span").textContent = names.get(i);
}

function listen(map) {
  const { plane } = map;
  const { canvas } = plane;
  const touches = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    touches.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
    if (map.is_lassoing) map.lasso = [plane.locate(event.offsetX, event.offsetY)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return hover(map, plane.nearest(event.offsetX, event.offsetY), event);
    const spread = () => {
      const [[ax, ay], [bx, by]] = touches.values();
      return Math.hypot(ax - bx, ay - by);
    };
    const wide = touches.size === 2 ? spread() : null;
    touches.set(event.pointerId, [event.offsetX, event.offsetY]);
    const [dx, dy] = [event.offsetX - before[0], event.offsetY - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (map.lasso) map.lasso.push(plane.locate(event.offsetX, event.offsetY));
    else if (wide) plane.zoomTo(spread() / wide, event.offsetX, event.offsetY);
    else plane.move(dx, dy);
    hover(map, null);
    again(map);
  });
  const end = (event) => {
    if (!touches.delete(event.pointerId)) return;
    if (map.lasso) return enclose(map);
    const i = plane.nearest(event.offsetX, event.offsetY);
    if (event.type === "pointerup" && moved < 6 && i !== null) go(changed({ item: String(map.points.id[i]) }));
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => hover(map, null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    plane.zoomTo(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    hover(map, null);
    again(map);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (step) plane.move(...step);
    else if (event.key === "+" || event.key === "-") plane.zoomTo(event.key === "+" ? 1.4 : 1 / 1.4);
    else return;
    event.preventDefault();
    again(map);
  });
}

/** Choose what the lasso has caught; the paths are asked for. */
async function enclose(map) {
  const caught = map.lasso.length > 2 ? map.plane.within(map.lasso) : [];
  map.lasso = null;
  const chosen = (map.plane.chosen = new Set(caught));
  lasso(map);
  selection.clear();
  paint(map);
  const found = await items(map, caught.map((i) => map.points.id[i]));
  if (map.plane.chosen !== chosen) return; // others have been caught since
  for (const { id, modality, name, path } of found) selection.choose({ id: String(id), kind: modality, name, path });
  selection.show();
}

async function items({ place }, ids) {
  const all = [];
  for (let from = 0; from < ids.length; from += 1000) {
    const some = ids.slice(from, from + 1000);
    const parameters = new URLSearchParams({ where: `id IN (${some.join(",")})`, top: 1000 });
    for (const [name, value] of new URLSearchParams(place.dataset.asked)) parameters.set(name, value);
    const answer = await fetch(`/v1/items?${parameters}`).catch(() => null);
    if (answer?.ok) all.push(...(await answer.json()).items);
  }
  return all;
}

function lasso(map) {
  map.is_lassoing = !map.is_lassoing && !map.plane.chosen.size;
  map.place.classList.toggle("lassoing", map.is_lassoing);
  map.place.querySelector('[data-do="lasso"]').setAttribute("aria-pressed", map.is_lassoing);
  note(map);
}

function zoom(factor) {
  if (!now?.points) return;
  now.plane.zoomTo(factor);
  paint(now);
}

export const actions = {
  "zoom-in": () => zoom(1.6),
  "zoom-out": () => zoom(1 / 1.6),
  whole() {
    if (!now?.points) return;
    Object.assign(now.plane, { zoom: 1, at: [0, 0] });
    paint(now);
  },
  lasso() {
    if (!now?.points) return;
    now.plane.chosen = new Set();
    lasso(now);
    paint(now);
  },
};

export function start() {
  const repaint = () => { if (now) paint(now); };
  document.addEventListener("theme", repaint);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
}
