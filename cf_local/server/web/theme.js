// Before anything is painted: the theme that was chosen last time. Without a choice the system's.
"use strict";
try {
  const chosen = localStorage.getItem("cf-local.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // storage is forbidden here; the system's theme then
}
