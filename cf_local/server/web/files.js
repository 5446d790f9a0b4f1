/** Text files that are attached to a question: reads them, and keeps them until it is sent. */

const LIMIT = 200_000; // characters of all files of a question; far more than most contexts hold

/** The texts of files, each `{name, text}`, and what is wrong with the others. */
export async function textOf(list, attached) {
  const found = [];
  const problems = [];
  let left = LIMIT - attached.reduce((sum, { text }) => sum + text.length, 0);
  for (const file of list) {
    if (file.size > 4 * LIMIT) {
      problems.push(`“${file.name}” is too long: files may have ${LIMIT / 1000}k characters in all.`);
      continue;
    }
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (text.includes("\0")) throw new TypeError("binary");
      if (text.length > left) problems.push(`“${file.name}” is too long: files may have ${LIMIT / 1000}k characters in all.`);
      else {
        left -= text.length;
        found.push({ name: file.name, text });
      }
    } catch {
      problems.push(`“${file.name}” is not UTF-8 text, and only text can be read here.`);
    }
  }
  return { found, problems };
}

/** The files that were attached to a question that has not been sent; they last as long as the tab. */
export function recallFiles(name) {
  try {
    return JSON.parse(sessionStorage.getItem(`cf-local.files.${name}`)) ?? [];
  } catch {
    return [];
  }
}

/** Keep attached files. */
export function keepFiles(name, files) {
  try {
    if (files.length) sessionStorage.setItem(`cf-local.files.${name}`, JSON.stringify(files));
    else sessionStorage.removeItem(`cf-local.files.${name}`);
  } catch {
    // this browser stores nothing
  }
}
