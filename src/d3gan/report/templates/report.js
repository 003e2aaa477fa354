"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const grouped = (number) => number.toLocaleString("en-GB");

  // Storage may be refused: pages from a disk have none in some browsers.
  const stored = { get theme() { try { return localStorage.getItem("d3gan-theme"); } catch { return null; } },
    set theme(value) { try { localStorage.setItem("d3gan-theme", value); } catch { /* not kept, then */ } } };
  // At once, before anything is painted.
  if (["light", "dark"].includes(stored.theme)) root.dataset.theme = stored.theme;

  function theme() {
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
  }

  function sliders() {
    const frames = read("frames");
    for (const image of all("img[data-key]")) frames[image.dataset.key] = image.src;
    for (const slider of all("input[type=range][data-steps]")) {
      const steps = JSON.parse(slider.dataset.steps);
      const group = slider.closest(".group");
      const grids = all(".grid", group).map((figure) => ({
        figure, image: figure.querySelector("img"), output: figure.querySelector("output"),
        frames: JSON.parse(figure.dataset.frames) }));
      slider.addEventListener("input", () => {
        const step = steps[slider.valueAsNumber];
        slider.setAttribute("aria-valuetext", `step ${grouped(step)}`);
        group.querySelector(".slider output").textContent = grouped(step);
        for (const grid of grids) {
          const [own, key] = grid.frames.findLast(([at]) => at <= step) ?? grid.frames[0];
          grid.image.src = frames[key];
          grid.image.alt = `Images drawn by ${grid.figure.dataset.who}, after step ${grouped(own)}`;
          grid.output.textContent = grouped(own);
        }
      });
      slider.value = steps.length - 1; // a browser may bring back an earlier place when the page is loaded again
    }
  }

  // Numbers in order of their value; what is none comes last, both ways, in order of the text.
  function compare(a, b, down) {
    const [x, y] = [a, b].map((cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : NaN));
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    const order = Number.isNaN(x) ? a.textContent.localeCompare(b.textContent, "en", { numeric: true }) : x - y;
    return down ? -order : order;
  }

  function tables() {
    for (const table of all("table.sortable")) {
      const headers = all("thead th", table);
      headers.forEach((header, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...header.childNodes);
        header.append(button);
        button.addEventListener("click", () => {
          const down = header.getAttribute("aria-sort") === "ascending";
          for (const other of headers) other.removeAttribute("aria-sort");
          header.setAttribute("aria-sort", down ? "descending" : "ascending");
          const rows = [...table.tBodies[0].rows];
          table.tBodies[0].append(...rows.sort((a, b) => compare(a.cells[column], b.cells[column], down)));
        });
      });
    }
  }

  function download(text, type, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function downloads() {
    for (const button of all("button.svg")) {
      button.addEventListener("click", () => {
        const svg = button.closest("figure").querySelector("svg").cloneNode(true);
        const { width, height } = svg.viewBox.baseVal;
        svg.removeAttribute("style");
        svg.setAttribute("width", `${width}pt`);
        svg.setAttribute("height", `${height}pt`);
        const text = new XMLSerializer().serializeToString(svg).replaceAll("var(--paper, #ffffff)", "#ffffff");
        download(text, "image/svg+xml", `${button.dataset.name}.svg`);
      });
    }
    document.getElementById("numbers").addEventListener("click", () =>
      download(JSON.stringify(read("comparison"), null, 1), "application/json", "comparison.json"));
  }

  async function copy(code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      return "Selected"; // one key press from copied
    }
  }

  function copies() {
    for (const button of all("button.copy")) {
      const before = [...button.childNodes];
      button.setAttribute("aria-live", "polite");
      button.addEventListener("click", async () => {
        button.textContent = await copy(button.parentElement.querySelector("code"));
        setTimeout(() => button.replaceChildren(...before), 1500);
      });
    }
  }

  function animations() {
    const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const figure of all(".animation")) {
      const [image, button] = [figure.querySelector("img"), figure.querySelector("button")];
      const moving = image.src;
      const show = (plays) => {
        figure.querySelector("source")?.remove();
        image.src = plays ? moving : figure.dataset.still;
        button.textContent = plays ? "Pause" : "Play";
        button.dataset.plays = plays;
      };
      if (reduced) show(false);
      button.addEventListener("click", () => show(button.dataset.plays === "false"));
    }
  }

  // What is folded is printed too.
  function printing() {
    let folded = [];
    addEventListener("beforeprint", () => {
      folded = all("details:not([open])");
      for (const each of folded) each.open = true;
    });
    addEventListener("afterprint", () => { for (const each of folded) each.open = false; });
  }

  addEventListener("DOMContentLoaded", () => {
    for (const each of all(".js")) each.hidden = false;
    for (const part of [theme, sliders, tables, downloads, copies, animations, printing]) part();
  });
})();
