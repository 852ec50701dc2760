// Pictures that the server draws of the query: how far they are, and what can be done with each.
import { address, changed } from "./address.js";
import { ask, reason, upload } from "./ask.js";
import { announce, say } from "./message.js";
import { go } from "./navigation.js";
import { t } from "./texts.js";

const COUNT = 4;
const PAUSE_MS = 200; // between two questions how far it is
const place = document.getElementById("drawing");
let drawing = null; // { parts, asked, name, seed, id }

function tile({ link, seed, is_filtered }) {
  const [made] = place.querySelector("template").content.cloneNode(true).children;
  const image = made.querySelector("img");
  image.src = link;
  image.alt = is_filtered ? t("draw.filtered") : t("draw.picture", { name: drawing.name });
  Object.assign(made.querySelector("a"), { href: link, download: `drawing ${seed}.png` });
  return made;
}

function show({ state, done, total, pictures }) {
  const is_over = state === "done";
  const list = place.querySelector("ol");
  list.append(...pictures.slice(list.children.length).map(tile));
  place.querySelector("output").value = is_over ? "" : t(`draw.${state}`);
  place.querySelector("progress").hidden = is_over;
  Object.assign(place.querySelector("progress"), { max: total, value: done });
  for (const button of place.querySelectorAll("[data-while]")) button.hidden = (button.dataset.while === "done") !== is_over;
  place.hidden = false;
}

async function begin(query) {
  end();
  const mine = (drawing = { ...query, id: null });
  const { parts, asked, seed } = mine;
  show({ state: "drawing", done: 0, total: 1, pictures: [] });
  try {
    const body = JSON.stringify({ parts: JSON.parse(parts), count: COUNT, seed, anyway: address().has("anyway") });
    let now = await ask(`/v1/drawings${asked}`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
    mine.id = now.id;
    if (drawing !== mine) return remove(mine);
    while (true) {
      if (now.state === "failed") throw new Error(now.problem.detail);
      show(now);
      if (now.state === "done") return announce(t("draw.done", { n: now.pictures.length }));
      await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
      now = await ask(`/v1/drawings/${mine.id}`);
      if (drawing !== mine) return;
    }
  } catch (error) {
    if (drawing !== mine) return;
    end();
    say(reason(error));
  }
}

const remove = ({ id }) => fetch(`/v1/drawings/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});

/** Cancel the drawing, and take its pictures away. */
function end() {
  if (drawing?.id) remove(drawing);
  drawing = null;
  place.hidden = true;
  place.querySelector("ol").replaceChildren();
}

export function start() {
  addEventListener("pagehide", end);
}

export const actions = {
  draw({ dataset: { parts, asked } }) {
    return begin({ parts, asked, seed: 0, name: document.getElementById("results").dataset.name });
  },
  redraw: () => begin({ ...drawing, seed: drawing.seed + COUNT }),
  "end-drawing": end,
  async "search-drawn"(button) {
    const { href, download } = button.closest("li").querySelector("a");
    try {
      const drawn = await fetch(href);
      if (!drawn.ok) throw new Error((await drawn.json()).detail);
      const part = await upload(download, await drawn.blob());
      await go(changed({ q: null, p: part, item: null, cut: null, anyway: null }));
    } catch (error) {
      say(reason(error));
    }
  },
};
