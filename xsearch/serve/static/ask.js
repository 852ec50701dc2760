// Questions to the server that are answered in JSON, and files that are sent to it.
import { t } from "./texts.js";

/** The answer; its problem is thrown as a plain Error. */
export async function ask(url, options) {
  const answer = await fetch(url, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail ?? content.title);
  return content;
}

/** Send a file; the source that it is as a part of a query. */
export async function upload(name, body) {
  const { id } = await ask(`/v1/uploads?${new URLSearchParams({ name })}`, { method: "POST", body });
  return `upload:${id}`;
}

/** Why there is no answer: the problem that the server has stated, or that it does not answer. */
export const reason = (error) => (error.constructor === Error ? error.message : t("problem.offline"));
