// The texts of the page's language, which the server has too.
import en from "./texts/texts.en.json" with { type: "json" };
import ja from "./texts/texts.ja.json" with { type: "json" };

const texts = { en, ja }[document.documentElement.lang];

/** The text of a key with its values; of `one|many` the form for `n`. */
export function t(key, values = {}) {
  const [one, many] = texts[key].split("|");
  const text = many && values.n !== 1 ? many : one;
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? values[name].toLocaleString("en") : values[name]);
}
