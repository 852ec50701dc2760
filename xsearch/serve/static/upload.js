// Files of the visitor as parts of the query: picked, dropped, pasted, recorded.
import { reason, upload } from "./ask.js";
import { accept, pending, refuse, search } from "./bar.js";
import { announce } from "./message.js";
import { t } from "./texts.js";

/** Send files, and search with them; where one cannot be used, its chip says why until it is removed. */
export async function use(files, weight = 1) {
  const sent = await Promise.all([...files].map((file) => send(file, pending(file.name), weight)));
  if (sent.every(Boolean)) await search();
}

async function send(file, chip, weight) {
  try {
    accept(chip, await upload(file.name, file), weight);
    return true;
  } catch (error) {
    const detail = reason(error).replace(`${file.name}: `, "");
    refuse(chip, detail);
    announce(t("problem.upload", { name: file.name, detail }));
    return false;
  }
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
