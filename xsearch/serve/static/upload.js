// Files of the visitor as parts of the query: picked, dropped, pasted, recorded.
import { pending, search } from "./bar.js";
import { say } from "./message.js";
import { t } from "./texts.js";

/** Send files, and search with all that the server can read. */
export async function use(files, weight = 1) {
  const sent = await Promise.all([...files].map((file) => send(file)));
  const parts = sent.filter(Boolean).map(({ id }) => ({ source: `upload:${id}`, weight }));
  if (parts.length) await search(...parts);
}

export async function send(file) {
  const chip = pending(file.name);
  try {
    const answer = await fetch(`/v1/uploads?${new URLSearchParams({ name: file.name })}`, { method: "POST", body: file });
    const content = await answer.json();
    if (answer.ok) return content;
    say(t("problem.upload", { name: file.name, detail: content.detail ?? content.title }));
  } catch {
    say(t("problem.offline"));
  } finally {
    chip.remove();
  }
  return null;
}

export function start() {
  document.addEventListener("change", (event) => {
    if (event.target.id !== "pick") return;
    use(event.target.files);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => {
    const { files } = event.clipboardData;
    if (!files.length) return;
    event.preventDefault();
    use(files);
  });
}
