"use strict";
(() => {
  const panel = document.getElementById("panel");
  const body = panel.querySelector(".body");
  const title = panel.querySelector("h2");
  const answers = [...document.querySelectorAll(".answer")];
  const segments = (answer) => [...answer.querySelectorAll(".s")];
  const cached = new Map(answers.map((answer) => [answer, segments(answer)]));
  const current = new Map();
  const hint = title.textContent;
  const steps = new Map();
  let shown = null;
  let pinned = false;

  function show(segment) {
    const step = steps.get(segment.dataset.s);
    if (step) title.textContent = step.dataset.t;
    if (shown === segment) return;
    if (shown) shown.classList.remove("on");
    shown = segment;
    segment.classList.add("on");
    if (!step) return;
    body.replaceChildren(step.cloneNode(true));
    panel.classList.add("open");
  }

  function hide() {
    if (shown) shown.classList.remove("on");
    shown = null;
    pinned = false;
    panel.classList.remove("open");
    title.textContent = hint;
    body.replaceChildren();
  }

  // A link to a step (#s12) leads to its table in the list of all; with this script to its segment.
  for (const step of document.querySelectorAll(".steps > .step")) {
    steps.set(step.id, step);
    step.removeAttribute("id");
  }
  for (const list of document.querySelectorAll("details.steps")) list.open = false;

  // One stop of the Tab key for each answer; arrows go on from there.
  function enter(segment) {
    const answer = segment.closest(".answer");
    const before = current.get(answer);
    if (before) before.tabIndex = -1;
    current.set(answer, segment);
    segment.tabIndex = 0;
    if (!segment.hasAttribute("aria-label")) {
      segment.setAttribute("role", "button");
      segment.setAttribute("aria-label", `${segment.textContent}: not disputed`);
    }
  }

  function go(segment) {
    if (!segment) return;
    enter(segment);
    segment.focus();
    segment.scrollIntoView({ block: "nearest" });
  }

  function target(answer, segment, key) {
    const all = cached.get(answer);
    const at = all.indexOf(segment);
    const back = getComputedStyle(answer).direction === "rtl" ? "ArrowRight" : "ArrowLeft";
    switch (key) {
      case "ArrowLeft":
      case "ArrowRight":
        return all[at + (key === back ? -1 : 1)];
      case "ArrowDown":
        return all.slice(at + 1).find((one) => one.dataset.d);
      case "ArrowUp":
        return all.slice(0, at).reverse().find((one) => one.dataset.d);
      case "Home":
        return all[0];
      case "End":
        return all[all.length - 1];
      default:
        return undefined;
    }
  }

  for (const answer of answers) {
    const all = cached.get(answer);
    for (const segment of all) {
      segment.tabIndex = -1;
      segment.id = segment.dataset.s;
    }
    const first = all.find((one) => one.dataset.d) || all[0];
    if (first) {
      current.set(answer, first);
      first.tabIndex = 0;
    }
    answer.addEventListener("mouseover", (event) => {
      const segment = event.target.closest(".s");
      if (segment && !pinned) show(segment);
    });
    answer.addEventListener("focusin", (event) => {
      const segment = event.target.closest(".s");
      if (!segment) return;
      enter(segment);
      pinned = false;
      show(segment);
    });
    answer.addEventListener("click", (event) => {
      const segment = event.target.closest(".s");
      if (!segment) return;
      event.preventDefault();
      go(segment);
      show(segment);
      pinned = true;
      try { history.replaceState(null, "", `#${segment.dataset.s}`); } catch { /* not from a frame */ }
    });
    answer.addEventListener("keydown", (event) => {
      const segment = event.target.closest(".s");
      if (!segment || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        segment.click();
        return;
      }
      const next = target(answer, segment, event.key);
      if (next || /^(Arrow|Home|End)/.test(event.key)) event.preventDefault();
      go(next);
    });
  }

  function close() {
    const segment = shown;
    hide();
    if (segment && panel.contains(document.activeElement)) segment.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.classList.contains("open")) close();
  });
  panel.querySelector("button").addEventListener("click", () => {
    const segment = shown;
    segment.focus();
    hide();
  });

  document.body.classList.add("js");

  const toggle = document.getElementById("theme");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const label = () => { toggle.textContent = isDark() ? "Light colours" : "Dark colours"; };
  toggle.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  label();
  toggle.hidden = false;

  function follow() {
    const id = decodeURIComponent(location.hash.slice(1));
    const segment = document.getElementById(id);
    if (segment && segment.dataset.s) {
      go(segment);
      show(segment);
      pinned = true;
    }
  }
  addEventListener("hashchange", follow);
  const hottest = document.querySelectorAll(".hot a");
  for (const link of hottest) link.addEventListener("click", () => setTimeout(follow));
  follow();

  // Where the panel has a place of its own, it begins with the most disputed word.
  if (!shown && hottest.length && matchMedia("(min-width: 68rem)").matches) {
    show(document.getElementById(hottest[0].hash.slice(1)));
    title.textContent = `Most disputed. ${title.textContent}`;
  }
})();
