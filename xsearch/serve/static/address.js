// The address of the page, which is the query; see address.py.

export const address = () => new URLSearchParams(location.search);

/** The link to a set of parameters. */
export function link(parameters) {
  const query = parameters.toString();
  return query ? `/?${query}` : "/";
}

/** The link to this page with some parameters changed: a value, several, or null for none. */
export function changed(changes) {
  const parameters = address();
  for (const [name, value] of Object.entries(changes)) {
    parameters.delete(name);
    for (const each of [value ?? []].flat()) parameters.append(name, each);
  }
  return link(parameters);
}

/** An address without the item that is open: pages that differ in it alone are the same. */
export function page(url) {
  const parameters = new URL(url, location.href).searchParams;
  parameters.delete("item");
  return parameters.toString();
}

export const term = (source, weight) => (weight === 1 ? source : `${weight}*${source}`);

/** The source of a term. */
export const sourceOf = (written) => written.replace(/^-?[\d.]+\*/, "");
