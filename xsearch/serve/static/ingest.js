// What happens to the collection while the page is open: an ingest that runs, and what it has added.
import { page } from "./address.js";
import { reload } from "./navigation.js";
import { t } from "./texts.js";

const line = document.getElementById("ingest");
let generation = null;

function show({ generation: now, items, writer }) {
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

export function start() {
  const name = new URLSearchParams(page(location.href)).get("collection");
  const source = new EventSource(`/v1/events${name ? `?${new URLSearchParams({ collection: name })}` : ""}`);
  source.addEventListener("state", ({ data }) => show(JSON.parse(data)));
  addEventListener("pagehide", () => source.close());
}
