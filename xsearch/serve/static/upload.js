// Files of the visitor as parts of the query: picked, dropped, pasted, recorded.
import { accept, pending, refuse, search } from "./bar.js";
import { announce } from "./message.js";
import { t } from "./texts.js";

/** Send files, and search with them; where one cannot be used, its chip says why until it is removed. */
export async function use(files, weight = 1) {
  const sent = await Promise.all([...files].map((file) => send(file, pending(file.name), weight)));
  if (sent.every(Boolean)) await search();
}

async function send(file, chip, weight) {
  const query = new URLSearchParams({ name: file.name });
  let detail;
  try {
    const answer = await fetch(`/v1/uploads?${query}`, { method: "POST", body: file });
    const content = await answer.json();
    if (answer.ok) {
      accept(chip, `upload:${content.id}`, weight);
      return true;
    }
    detail = (content.detail ?? content.title).replace(`${file.name}: `, "");
  } catch {
    detail = t("problem.offline");
  }
  refuse(chip, detail);
  announce(t("problem.upload", { name: file.name, detail }));
  return false;
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
