// What a visitor prefers: theme and language (cookies, which the server reads), scores, filters, keys.
import { layAll } from "./grid.js";

const YEAR_S = 31_536_000;
const root = document.documentElement;
const remember = (name, value) => { document.cookie = `${name}=${value}; path=/; max-age=${YEAR_S}; SameSite=Lax`; };
const is_on = (name) => localStorage.getItem(`xsearch.${name}`) === "on";
const keep = (name, value) => localStorage.setItem(`xsearch.${name}`, value ? "on" : "off");

/** Bring the page in step with what is preferred. */
export function apply() {
  const filters = document.getElementById("filters");
  if (filters) {
    filters.hidden = !is_on("filters");
    filters.parentElement.classList.toggle("filtering", is_on("filters"));
    document.querySelector('[data-do="filters"]')?.setAttribute("aria-expanded", is_on("filters"));
  }
  document.body.classList.toggle("with-scores", is_on("scores"));
  document.querySelector('[data-do="scores"]')?.setAttribute("aria-pressed", is_on("scores"));
}

export const hasKeys = () => localStorage.getItem("xsearch.keys") !== "off";

export function start() {
  const box = document.getElementById("keys");
  box.checked = hasKeys();
  box.addEventListener("change", () => keep("keys", box.checked));
}

function toggle(name) {
  keep(name, !is_on(name));
  apply();
  layAll();
}

export const actions = {
  scores: () => toggle("scores"),
  filters: () => toggle("filters"),
  theme() {
    const is_dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = is_dark ? "light" : "dark";
    remember("theme", root.dataset.theme);
    document.dispatchEvent(new Event("theme"));
  },
  language(button) {
    remember("language", button.dataset.language);
    location.reload();
  },
  help: () => document.getElementById("help").showModal(),
};
