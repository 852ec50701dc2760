// Searches that this browser remembers.
import { here } from "./navigation.js";
import { t } from "./texts.js";

const KEY = "xsearch.saved";
const menu = document.getElementById("saved");

function read() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY)) ?? [];
    return list.filter(({ url }) => typeof url === "string" && url.startsWith("/?"));
  } catch {
    return [];
  }
}

function write(list) {
  localStorage.setItem(KEY, JSON.stringify(list));
  show();
}

function show() {
  const list = read();
  menu.querySelector("[data-empty]").hidden = list.length > 0;
  menu.querySelector(".saved").replaceChildren(...list.map(({ name, url }) => {
    const link = Object.assign(document.createElement("a"), { href: url, textContent: name, dir: "auto" });
    const remove = Object.assign(document.createElement("button"), { type: "button", className: "tool", textContent: "×" });
    remove.setAttribute("aria-label", t("saved.remove", { name }));
    remove.addEventListener("click", () => write(read().filter((each) => each.url !== url)));
    link.addEventListener("click", () => { menu.open = false; });
    const line = document.createElement("li");
    line.append(link, remove);
    return line;
  }));
}

export function start() {
  menu.addEventListener("toggle", show);
}

export const actions = {
  save() {
    const name = document.getElementById("results").dataset.name || t("saved.home");
    const url = `/?${here()}`;
    write([{ name, url }, ...read().filter((each) => each.url !== url)]);
  },
};
