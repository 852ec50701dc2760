// The texts of the page's language, which the server has too.
let texts = {};
export const ready = fetch(`/static/texts/texts.${document.documentElement.lang}.json`)
  .then((answer) => answer.json())
  .then((content) => { texts = content; });

/** The text of a key with its values; of `one|many` the form for `n`. */
export function t(key, values = {}) {
  const [one, many] = (texts[key] ?? key).split("|");
  const text = many && values.n !== 1 ? many : one;
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? values[name].toLocaleString("en") : values[name]);
}
