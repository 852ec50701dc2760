// Where the query is in the picture that is open: boxes with scores, and a heat map, over the picture.
import { ask, reason } from "./ask.js";
import { t } from "./texts.js";

const LONG = 1000; // the longer side of the picture, in the units of what is drawn
const LETTERS = 14; // pixels of the screen
const WARM = 0.6; // opacity of the hottest places, as in preview.marks

/** An element of SVG that is drawn over the picture. */
function drawn(name, attributes, ...content) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

function boxes(found, width, height, letters) {
  const marks = found.flatMap(({ left, top, right, bottom, score }) => {
    const sides = { x: left * width, y: top * height, width: (right - left) * width, height: (bottom - top) * height };
    return [
      drawn("rect", { class: "edge", ...sides }),
      drawn("rect", { class: "ink", ...sides }),
      drawn("text", { x: sides.x + letters / 2, y: sides.y + letters / 2, "dominant-baseline": "hanging" }, score.toFixed(1)),
    ];
  });
  return drawn("svg", { class: "marks", viewBox: `0 0 ${width} ${height}`, "font-size": letters, "aria-hidden": "true" }, ...marks);
}

/** The 256 colours of the page's heat map. */
function colours() {
  const stops = getComputedStyle(document.documentElement).getPropertyValue("--inferno").match(/#[0-9a-f]{6}/gi);
  const context = new OffscreenCanvas(256, 1).getContext("2d");
  const gradient = context.createLinearGradient(0, 0, 256, 0);
  stops.forEach((colour, at) => gradient.addColorStop(at / (stops.length - 1), colour));
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 1);
  return context.getImageData(0, 0, 256, 1).data;
}

function heat(rows, width, height) {
  const table = colours();
  const cells = new ImageData(rows[0].length, rows.length);
  rows.flat().forEach((warmth, at) => {
    const colour = 4 * Math.round(255 * warmth);
    cells.data.set(table.subarray(colour, colour + 3), 4 * at);
    cells.data[4 * at + 3] = 255 * WARM * warmth;
  });
  const small = new OffscreenCanvas(cells.width, cells.height);
  small.getContext("2d").putImageData(cells, 0, 0);
  const canvas = Object.assign(document.createElement("canvas"), { className: "marks", width, height, hidden: true });
  canvas.getContext("2d").drawImage(small, 0, 0, width, height);
  return canvas;
}

async function locate(button) {
  const item = button.closest(".item");
  const picture = item.querySelector(".zoom");
  const words = item.querySelector(".located");
  const warm = button.parentElement.querySelector("[data-do=heat]");
  if (button.ariaPressed === "true") {
    item.querySelectorAll(".marks").forEach((each) => each.remove());
    words.value = "";
    warm.hidden = true;
    button.ariaPressed = "false";
    return;
  }
  button.disabled = true;
  words.value = t("loading");
  const located = await answer(button);
  await picture?.querySelector("img").decode().catch(() => {}); // its size is that of the marks
  button.disabled = false;
  words.value = summary(located);
  const image = picture?.querySelector("img");
  if (!located.boxes || !image?.clientWidth || !image.naturalWidth) return; // closed meanwhile, or no picture
  const scale = LONG / Math.max(image.naturalWidth, image.naturalHeight);
  const size = [image.naturalWidth, image.naturalHeight].map((side) => Math.round(side * scale));
  const pixel = Math.max(size[0] / image.clientWidth, size[1] / image.clientHeight);
  for (const marks of [heat(located.heat, ...size), boxes(located.boxes, ...size, LETTERS * pixel)]) {
    if (picture.matches(".small")) marks.style = `width: ${image.clientWidth}px; height: ${image.clientHeight}px`;
    picture.append(marks);
  }
  warm.hidden = false;
  warm.ariaPressed = "false";
  button.ariaPressed = "true";
}

/** The answer of the server, or a problem. */
async function answer({ dataset }) {
  const headers = { "Content-Type": "application/json" };
  try {
    return await ask(dataset.url, { method: "POST", headers, body: dataset.query });
  } catch (error) {
    return { detail: reason(error) };
  }
}

/** An answer or a problem in words. */
function summary({ boxes, score, threshold, detail }) {
  if (!boxes) return detail;
  if (!boxes.length) return t("locate.none", { score: score.toFixed(1), needed: threshold.toFixed(1) });
  return t("locate.found", { n: boxes.length, scores: boxes.map((box) => box.score.toFixed(1)).join(", ") });
}

export const actions = {
  locate,
  heat(button) {
    const map = button.closest(".item").querySelector("canvas.marks");
    map.hidden = !map.hidden;
    button.ariaPressed = String(!map.hidden);
  },
};
