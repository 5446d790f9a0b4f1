// Before the first paint: the theme that was chosen last, or the system's without a choice.
"use strict";
try {
  const chosen = localStorage.getItem("cf-local.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // storage is forbidden here: use the system's theme
}
