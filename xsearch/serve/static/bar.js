// The search bar: a text, and chips for the other parts of the query.
import { address, link, sourceOf, term } from "./address.js";
import { go } from "./navigation.js";
import { t } from "./texts.js";

const bar = () => document.getElementById("bar");
const q = () => document.getElementById("q");

/** Chips of parts: all, or those that the address does not have yet. */
const chips = (which = "") =>
  [...bar().querySelectorAll(`.term[data-source]${which}`)].map(({ dataset }) => ({
    source: dataset.source, weight: Number(dataset.weight), label: dataset.label,
  }));

/** Search for what the bar says now, with further parts. */
export function search(...added) {
  const parameters = address();
  for (const name of ["q", "item", "cut", "anyway"]) parameters.delete(name);
  const text = q().value.trim();
  if (text) parameters.set("q", text);
  return ask(parameters, parameters.getAll("p"), added);
}

/** Go to a query of parts, those that are new, and further ones. */
function ask(parameters, parts, added = []) {
  const further = [...chips("[data-new]"), ...added].map(({ source, weight }) => term(source, weight));
  parameters.delete("p");
  for (const part of new Set([...parts, ...further])) parameters.append("p", part);
  const going = go(link(parameters)); // which keeps the page that is left without the new ones
  for (const chip of bar().querySelectorAll(".term[data-new][data-source]")) delete chip.dataset.new;
  return going;
}

/** The same query with another weight of a part, or without it if that is null; the address may be ahead of the bar. */
function reweigh({ dataset: { source } }, weight) {
  const parameters = address();
  const reweighed = weight === null ? [] : [term(source, weight)];
  return ask(parameters, parameters.getAll("p").flatMap((part) => (sourceOf(part) === source ? reweighed : [part])));
}

/** Take what is typed as a part of its own. */
function keep(weight) {
  const text = q().value.trim();
  if (!text) return;
  q().value = "";
  search({ source: `text:${text}`, weight });
}

const signed = ({ dataset }, { value }) => Number(value) * (dataset.weight < 0 ? -1 : 1);

function formula() {
  const text = q().getAttribute("value");
  const terms = [...(text ? [{ source: "text:", label: text, weight: 1 }] : []), ...chips()];
  const written = terms.map(({ source, label, weight }, at) => {
    const sign = weight < 0 ? "− " : at ? "+ " : "";
    const factor = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} × `;
    return `${sign}${factor}${source.startsWith("text:") ? `“${label}”` : label}`;
  });
  bar().querySelector(".formula").value = written.length > 1 || terms[0]?.weight !== 1 ? written.join(" ") : "";
}

/** A chip for a file that is on its way to the server: new, which it stays on other pages until it is searched for. */
export function pending(name) {
  const chip = document.createElement("li");
  chip.className = "term busy";
  chip.dataset.new = "";
  const label = document.createElement("span");
  label.className = "label";
  label.append(Object.assign(document.createElement("b"), { textContent: name, dir: "auto" }));
  chip.append(label);
  bar().querySelector(".terms").append(chip);
  return chip;
}

/** Make a chip the part that its file has become. */
export function accept(chip, source, weight) {
  chip.classList.remove("busy");
  Object.assign(chip.dataset, { source, weight, label: chip.textContent });
}

/** Let a chip say why its file cannot be used, and offer to go on without it. */
export function refuse(chip, why) {
  chip.className = "term gone refused";
  const label = chip.querySelector(".label");
  label.append(Object.assign(document.createElement("small"), { textContent: why, dir: "auto" }));
  label.title = why;
  const without = Object.assign(document.createElement("button"), { type: "button", textContent: t("bar.without") });
  without.className = "without";
  without.dataset.do = "remove";
  chip.append(without);
}

export function start() {
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "bar") return;
    event.preventDefault();
    search();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.id !== "q" || event.key !== "Enter" || event.isComposing) return;
    if (event.shiftKey || event.altKey) {
      event.preventDefault();
      keep(event.altKey ? -1 : 1);
    }
  });
  document.addEventListener("input", (event) => {
    const chip = event.target.closest(".term");
    if (!chip || event.target.type !== "range") return;
    chip.dataset.weight = signed(chip, event.target);
    chip.querySelector(".weight").value = event.target.value;
    formula();
  });
  document.addEventListener("change", (event) => {
    const chip = event.target.closest(".term");
    if (chip && event.target.type === "range") reweigh(chip, signed(chip, event.target));
  });
}

export const actions = {
  more: () => keep(1),
  less: () => keep(-1),
  sign(button) {
    const chip = button.closest(".term");
    chip.dataset.weight = -Number(chip.dataset.weight);
    reweigh(chip, Number(chip.dataset.weight));
  },
  remove(button) {
    const chip = button.closest(".term");
    const next = chip.nextElementSibling ?? chip.previousElementSibling;
    chip.remove();
    (next?.querySelector(".remove") ?? q()).focus();
    reweigh(chip, null);
  },
};
