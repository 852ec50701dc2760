// Going from page to page without leaving it: the server renders every address, links work as they are.
import htmx from "./vendor/htmx/htmx.esm.min.js";
import { address, page } from "./address.js";
import { announce, say } from "./message.js";
import { t } from "./texts.js";

const KEPT = 20; // pages that "back" shows as they were left
const view = document.getElementById("view");
const left = new Map(); // address -> what was shown
let shown = page(location.href); // null: none that is whole
let request = null;
let is_leaving = false; // a step back is on its way
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

/** Go back, once for all who ask until it is done. */
export function back() {
  if (!is_leaving) history.back();
  is_leaving = true;
}

/** Note in the address what has changed here already. */
export function note(url) {
  if (page(location.href) === shown) shown = page(url); // else another page is on its way
  history.replaceState(history.state, "", url);
}

/** The parameters of the page that is shown, of which there may be another on its way. */
export const here = () => shown ?? page(location.href);

/** The same page anew. */
export function reload() {
  shown = null;
  return load(false);
}

async function show({ scroll = false, back = false } = {}) {
  const is_busy = document.body.classList.contains("busy"); // another page is on its way, and the bar is its already
  if (page(location.href) !== shown || is_busy) {
    const cached = back ? left.get(page(location.href)) : null;
    if (!(cached ? restore(cached) : await load(scroll))) return;
  }
  await showPanel(address().get("item"));
}

function leave() {
  if (shown === null) return;
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
    if (location.href !== url) return await load(scroll); // the cut-off has been moved meanwhile
    const fresh = new DOMParser().parseFromString(html, "text/html");
    shown = page(url);
    document.title = fresh.title;
    view.replaceChildren(...document.adoptNode(fresh.getElementById("view")).childNodes);
    htmx.process(view);
    morphBar(fresh.getElementById("bar").outerHTML, typed);
    if (scroll) scrollTo(0, 0);
    announce(document.getElementById("results").dataset.announce);
    return true;
  } catch {
    if (!mine.signal.aborted) say(t("problem.offline"));
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
    is_leaving = false;
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

/** A link; one of a page changes there what it changes here, if another page is on its way or the cut-off was moved. */
function current(link) {
  const url = new URL(link.href);
  const to = url.searchParams;
  const now = address();
  const from = new URL(document.getElementById("results").dataset.address, location.href).searchParams;
  const differs = (name, other) => `${to.getAll(name)}` !== `${other.getAll(name)}`;
  const is_other = ["q", "p"].some((name) => differs(name, from));
  if (is_other || !link.closest("#view, #panel") || link.closest(".notice")) return url;
  for (const name of new Set([...to.keys(), ...now.keys()])) {
    const is_kept = name === "cut" || name === "beyond" || !differs(name, from);
    if (name === "item" || !is_kept || !differs(name, now)) continue;
    to.delete(name);
    for (const value of now.getAll(name)) to.append(name, value);
  }
  return url;
}
