// Going from page to page without leaving it: the server renders every address, links work as they are.
import htmx from "./vendor/htmx/htmx.esm.min.js";
import { address, page } from "./address.js";
import { announce, say } from "./message.js";
import { t } from "./texts.js";

const KEPT = 20; // pages that "back" shows as they were left
const view = document.getElementById("view");
const left = new Map(); // address -> what was shown
let shown = page(location.href);
let request = null;
let showPanel = () => {};

history.scrollRestoration = "manual";

/** What opens and closes the item of an address; see panel.js. */
export function onItem(callback) { showPanel = callback; }

export async function go(url, { replace = false } = {}) {
  const to = new URL(url, location.href);
  if (page(to) !== shown) leave();
  const opened = to.searchParams.has("item") && !address().has("item"); // closing it is going back
  if (replace || to.href === location.href) history.replaceState(history.state, "", to);
  else history.pushState({ opened }, "", to);
  await show({ scroll: !replace });
}

/** Note in the address what has changed here already. */
export function note(url) {
  history.replaceState(history.state, "", url);
  shown = page(url);
}

/** The same page anew. */
export const reload = () => load(false);

async function show({ scroll = false, back = false } = {}) {
  const is_busy = document.body.classList.contains("busy"); // another page is on its way, and the bar is its already
  if (page(location.href) !== shown || is_busy) {
    const cached = back ? left.get(page(location.href)) : null;
    if (!(cached ? restore(cached) : await load(scroll))) return;
  }
  await showPanel(address().get("item"));
}

function leave() {
  left.delete(shown);
  left.set(shown, {
    bar: oldBar(), view: [...view.childNodes], title: document.title, y: scrollY,
  });
  if (left.size > KEPT) left.delete(left.keys().next().value);
}

/** The bar without chips that are new. */
function oldBar() {
  const copy = document.getElementById("bar").cloneNode(true);
  copy.querySelectorAll("[data-new]").forEach((chip) => chip.remove());
  return copy.outerHTML;
}

function restore({ bar, view: nodes, title, y }) {
  request?.abort();
  shown = page(location.href);
  document.title = title;
  view.replaceChildren(...nodes);
  morphBar(bar);
  scrollTo(0, y);
  return true;
}

/** Get the page of the address, and show it in place of this one. */
async function load(scroll) {
  request?.abort();
  const mine = (request = new AbortController());
  const url = location.href;
  const typed = document.getElementById("q").value;
  document.body.classList.add("busy");
  try {
    const answer = await fetch(url, { signal: mine.signal, headers: { Accept: "text/html" } });
    if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error(await answer.text());
    const html = await answer.text();
    if (mine.signal.aborted) return false; // between the answer and here
    const fresh = new DOMParser().parseFromString(html, "text/html");
    shown = page(url);
    document.title = fresh.title;
    view.replaceChildren(...document.adoptNode(fresh.getElementById("view")).childNodes);
    htmx.process(view);
    morphBar(fresh.getElementById("bar").outerHTML, typed);
    if (scroll) scrollTo(0, 0);
    announce(document.getElementById("results").dataset.announce);
    return true;
  } catch (error) {
    if (error.name !== "AbortError") say(t("problem.offline"));
    return false;
  } finally {
    if (request === mine) document.body.classList.remove("busy");
  }
}

/** The search bar keeps its focus, and what has been typed and brought since the request. */
function morphBar(html, before = null) {
  const brought = [...document.querySelectorAll("#bar [data-new]")];
  brought.forEach((chip) => chip.remove());
  htmx.swap({ target: "#bar", text: html, select: "#bar", swap: "outerMorph" });
  document.querySelector("#bar .terms").append(...brought);
  const q = document.getElementById("q");
  if (before === null || q.value === before) q.value = q.getAttribute("value");
}

export function start() {
  addEventListener("popstate", () => {
    if (page(location.href) !== shown) leave();
    show({ back: true });
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const is_plain = !event.defaultPrevented && !event.button && !event.metaKey && !event.ctrlKey && !event.shiftKey;
    if (!link || !is_plain || link.target || link.pathname !== "/" || link.origin !== location.origin) return;
    if (link.hash || collection(link) !== collection(location)) return; // the head shows which one it is
    event.preventDefault();
    go(current(link));
  });
  if (address().has("item")) showPanel(address().get("item"));
}

const collection = ({ search }) => new URLSearchParams(search).get("collection");

/** A link; if it is to the same query, with the cut-off as it has been moved since. */
function current(link) {
  const url = new URL(link.href);
  const now = address();
  const is_same = ["q", "p"].every((name) => `${url.searchParams.getAll(name)}` === `${now.getAll(name)}`);
  if (!is_same || link.closest(".notice")) return url;
  for (const name of ["cut", "beyond"]) {
    url.searchParams.delete(name);
    for (const value of now.getAll(name)) url.searchParams.append(name, value);
  }
  return url;
}
