// What happens to the collection while the page is open: an ingest that runs, what it has added, a server that is gone.
import { reload } from "./navigation.js";
import { t } from "./texts.js";

const line = document.getElementById("ingest");
let generation = null;
let source = null;

function show({ collection, generation: now, items, writer }) {
  if (collection !== line.dataset.collection) return;
  const is_new = generation !== null && now !== generation;
  generation ??= now;
  line.hidden = !writer && !is_new;
  if (line.hidden) return;
  line.textContent = writer ? t("ingest.running", { n: items }) : t("ingest.done", { n: items });
  if (!is_new) return;
  const link = Object.assign(document.createElement("a"), { href: location.href, textContent: t("ingest.reload") });
  link.addEventListener("click", (event) => {
    event.preventDefault();
    generation = now;
    line.hidden = true;
    reload();
  });
  line.append(" ", link);
}

/** Follow the events while the page is visible: browsers open few connections, which all pages share. */
function follow() {
  source?.close();
  if (document.hidden) return;
  source = new EventSource("/v1/events");
  source.addEventListener("state", ({ data }) => show(JSON.parse(data)));
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CONNECTING) return; // refused: too many pages are open
    line.hidden = false;
    line.textContent = t("problem.offline");
  });
}

export function start() {
  follow();
  document.addEventListener("visibilitychange", follow);
}
