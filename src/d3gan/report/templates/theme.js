"use strict";
// The button that changes between light and dark, of the report and of the page of `d3gan watch`.
(() => {
  const root = document.documentElement;
  // Some browsers refuse storage to pages opened from a disk.
  const stored = { get theme() { try { return localStorage.getItem("d3gan-theme"); } catch { return null; } },
    set theme(value) { try { localStorage.setItem("d3gan-theme", value); } catch { /* forgotten on reload */ } } };
  // Now, before anything is painted.
  if (["light", "dark"].includes(stored.theme)) root.dataset.theme = stored.theme;

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
    const show = () => { button.textContent = now() === "dark" ? "Light page" : "Dark page"; };
    button.addEventListener("click", () => {
      root.dataset.theme = stored.theme = now() === "dark" ? "light" : "dark";
      show();
    });
    dark.addEventListener("change", show);
    show();
    button.hidden = false;
  });
})();
