// Filters that are typed: an expression, and ranges of numbers.
import { address, changed } from "./address.js";
import { go } from "./navigation.js";

/** The filters of the address with another range of a column. */
function within({ dataset: { column }, elements: { from, to } }) {
  const others = address().getAll("f").filter((each) => !each.startsWith(`${column}:`));
  const ends = [from, to].map(({ value }) => value.trim().replace(",", "."));
  return ends.some(Boolean) ? [...others, `${column}:${ends.join("..")}`] : others;
}

export function start() {
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("#filters form");
    if (!form) return;
    event.preventDefault();
    const filters = form.matches(".range") ? { f: within(form) } : { where: form.elements.where.value.trim() || null };
    go(changed({ ...filters, item: null }));
  });
}
