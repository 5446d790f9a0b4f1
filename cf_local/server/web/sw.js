/** The page without a server: a copy of its files, used only when the server does not answer. */

const COPY = "cf-local";
const FILES = [
  "./",
  "answer.js", "answering.js", "answertext.js", "answerview.js", "api.js", "app.js", "blocks.js",
  "catalogue.js", "chat.js", "clipboard.js", "composer.js", "conversation.js", "details.js", "fence.js",
  "figures.js", "files.js", "formula.js", "grammar.js", "growing.js", "highlighting.js", "html.js",
  "icon.svg", "icons.js", "inline.js", "keyform.js", "links.js", "listing.js", "manifest.webmanifest",
  "markdown.js", "menu.js", "nodes.js", "options.js", "packing.js", "picker.js", "pieces.js", "pointing.js",
  "question.js", "reply.js", "settings.js", "sidebar.js", "sse.js", "store.js", "style.css", "theme.js", "thought.js",
  "thread.js", "topbar.js", "versions.js", "visible.js", "welcome.js",
  "vendor/highlight.js", "vendor/hooks.js", "vendor/htm.js", "vendor/lezer-common.js",
  "vendor/lezer-highlight.js", "vendor/lezer-markdown.js", "vendor/preact.js", "vendor/temml.js",
];

addEventListener("install", (event) => {
  event.waitUntil(caches.open(COPY).then((copy) => copy.addAll(FILES)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => event.waitUntil(clients.claim()));

/** The path of a file of the page; null for what only the server can say. */
function fileOf(request) {
  const here = new URL("./", location.href).href;
  if (request.method !== "GET" || !request.url.startsWith(here)) return null;
  const path = request.url.slice(here.length).split(/[?#]/)[0] || "./";
  return FILES.includes(path) ? path : null;
}

addEventListener("fetch", (event) => {
  const path = fileOf(event.request);
  if (path) event.respondWith(answer(event.request, path));
});

async function answer(request, path) {
  const copy = await caches.open(COPY);
  try {
    const response = await fetch(request);
    if (response.ok) await copy.put(path, response.clone());
    return response;
  } catch (error) {
    const kept = await copy.match(path);
    if (kept) return kept;
    throw error;
  }
}
