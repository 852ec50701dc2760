// The item that is open, in a dialog over the results.
import htmx from "./vendor/htmx/htmx.esm.min.js";
import { address, changed } from "./address.js";
import { say } from "./message.js";
import { back, go, onItem } from "./navigation.js";
import { t } from "./texts.js";

const panel = document.getElementById("panel");
let opener = null; // of a chain of items, the tile that the first was opened from
let held = location.search; // the address that the item in the panel was rendered for
let request = null;

async function show(id) {
  request?.abort();
  const mine = (request = new AbortController());
  const asked = location.search;
  if (id === null) {
    if (panel.open) panel.close();
    panel.replaceChildren();
    focusTile(opener);
    opener = null;
    return;
  }
  opener ??= id;
  if (!panel.querySelector(".item") || held !== asked) {
    try {
      const answer = await fetch(`/item/${id}${asked}`, { signal: mine.signal, headers: { Accept: "text/html" } });
      const html = await answer.text();
      if (mine.signal.aborted) return; // between the answer and here
      panel.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
      held = asked;
      panel.scrollTop = 0;
      htmx.process(panel);
    } catch {
      if (!mine.signal.aborted) say(t("problem.offline"));
      return;
    }
  }
  if (!panel.matches(":modal")) {
    panel.removeAttribute("open");
    panel.showModal();
  }
  panel.focus();
}

function focusTile(id) {
  document.querySelector(`#results .tile[data-id="${CSS.escape(id ?? "")}"] .open`)?.focus({ preventScroll: true });
}

function close() {
  if (history.state?.opened) back();
  else go(changed({ item: null }), { replace: true });
}

/** The result before or after the one that is open. */
function turn(by) {
  const tiles = [...document.querySelectorAll("#results .tile")].filter((tile) => tile.offsetParent);
  const at = tiles.findIndex((tile) => tile.dataset.id === address().get("item"));
  const next = at < 0 ? null : tiles[at + by];
  if (!next) return;
  opener = next.dataset.id;
  next.scrollIntoView({ block: "nearest" });
  go(changed({ item: next.dataset.id }), { replace: true });
}

async function zoom(link) {
  const { default: PhotoSwipe } = await import("./vendor/photoswipe/photoswipe.esm.min.js");
  const image = link.querySelector("img");
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const large = new Image();
  large.src = link.href;
  await large.decode().catch(() => {});
  if (!link.isConnected || panel.querySelector(".pswp")) return; // closed, or enlarged already
  const box = new PhotoSwipe({
    dataSource: [{
      src: link.href, msrc: image.currentSrc, alt: image.alt,
      width: large.naturalWidth || Number(link.dataset.width), height: large.naturalHeight || Number(link.dataset.height),
    }],
    index: 0, appendToEl: panel, bgOpacity: 1, showHideAnimationType: calm ? "none" : "fade",
    zoomAnimationDuration: calm ? 0 : 250, counter: false, closeTitle: t("close"), zoomTitle: t("panel.zoom"),
  });
  box.on("destroy", () => link.focus());
  box.init();
}

export function start() {
  onItem(show);
  panel.tabIndex = -1;
  panel.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (!panel.querySelector(".pswp")) close();
  });
  panel.addEventListener("click", (event) => {
    if (event.target === panel) return close();
    const link = event.target.closest(".zoom");
    if (!link) return;
    event.preventDefault();
    zoom(link);
  });
  panel.addEventListener("keydown", (event) => {
    if (event.target.closest("input, video, .u-over") || panel.querySelector(".pswp")) return;
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
}

export const actions = {
  close(link, event) { event.preventDefault(); close(); },
  previous: () => turn(-1),
  next: () => turn(1),
  async "copy-path"() {
    await navigator.clipboard.writeText(panel.querySelector(".item").dataset.path)
      .then(() => say(t("copied")), () => say(t("copy.failed")));
  },
};
