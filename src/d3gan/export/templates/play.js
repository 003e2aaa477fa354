"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = JSON.parse($("shown").textContent);
  const { nz, classes } = shown;
  const ofPoints = shown.shape.length === 1;
  const size = shown.shape.reduce((product, side) => product * side, 1); // numbers of a sample
  const CHUNK = 8; // images per call, so that the page answers between two

  // What is shown: the samples of a draw, two of them chosen, the way between these, and what the sliders changed.
  const state = { latents: null, labels: null, samples: null, a: 0, b: 1, share: 0, label: 0, changed: new Map() };
  let network, discriminators, drawnByPython, drawnByRows;

  async function unpack(id) {
    const element = $(id);
    const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
    element.remove(); // megabytes that nothing reads any more
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function load() {
    const wasm = ort.env.wasm;
    wasm.numThreads = 1; // more need shared memory, which a page from a disk cannot have
    const inMemory = async (id, type) => URL.createObjectURL(new Blob([await unpack(id)], { type }));
    // Both as addresses: given the binary as bytes, the glue still looks for a file beside itself, and fails.
    wasm.wasmPaths = { mjs: await inMemory("glue", "text/javascript"), wasm: await inMemory("wasm", "application/wasm") };
    drawnByPython = new Float32Array((await unpack("latents")).buffer);
    if (classes.length) drawnByRows = new Float32Array((await unpack("latents-of-rows")).buffer);
    network = await ort.InferenceSession.create(await unpack("generator"));
    if (shown.discriminators) discriminators = await ort.InferenceSession.create(await unpack("discriminators"));
  }

  // A session computes one call at a time.
  let last = Promise.resolve();
  function inTurn(work) {
    const next = last.then(work);
    last = next.catch(() => {});
    return next;
  }

  /** Samples, one after the other, in a Float32Array, of latents (N nz) and, with classes, labels (N). */
  async function generate(latents, labels) {
    const count = latents.length / nz;
    const inputs = { latents: new ort.Tensor("float32", latents, [count, nz]) };
    if (classes.length) inputs.labels = new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [count]);
    return (await inTurn(() => network.run(inputs))).images.data;
  }

  /** A stream of numbers from N(0, 1) that its seed decides: mulberry32, then Box and Muller's transform. */
  function* normal(seed) {
    const uniform = () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    for (;;) {
      const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - uniform())), 2 * Math.PI * uniform()];
      yield radius * Math.cos(angle);
      yield radius * Math.sin(angle);
    }
  }

  // Python's numbers depend on how many are drawn, so that the rows of classes have a draw of their own.
  function latentsOf(draw) {
    const drawn = classes.length && $("rows").value === "" ? drawnByRows : drawnByPython;
    if (draw === 0) return drawn;
    const numbers = normal(draw);
    return Float32Array.from({ length: drawn.length }, () => numbers.next().value);
  }

  const latent = (i) => state.latents.subarray(i * nz, (i + 1) * nz);

  /** The latent at a share of the great-circle arc from one to another, as `d3gan sample --interpolate` has it. */
  function between(from, to, share) {
    const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
    const angle = Math.acos(Math.max(-1, Math.min(1, dot(from, to) / Math.sqrt(dot(from, from) * dot(to, to)))));
    const straight = !(Math.sin(angle) >= 1e-3);
    const first = straight ? 1 - share : Math.sin((1 - share) * angle) / Math.sin(angle);
    const second = straight ? share : Math.sin(share * angle) / Math.sin(angle);
    return from.map((value, i) => first * value + second * to[i]);
  }

  function currentLatent() {
    const now = state.b === null ? latent(state.a).slice() : between(latent(state.a), latent(state.b), state.share);
    for (const [i, value] of state.changed) now[i] = value;
    return now;
  }

  // Images

  function paint(canvas, values, offset) {
    const [channels, height, width] = shown.shape;
    const pixels = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      // A clamped array rounds to the nearest byte.
      for (let c = 0; c < 3; c++) {
        pixels.data[4 * i + c] = (values[offset + (channels === 3 ? c * width * height : 0) + i] + 1) * 127.5;
      }
      pixels.data[4 * i + 3] = 255;
    }
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  // As `d3gan sample` orders them: with classes so many of each, of many classes the first ones.
  function arrangement() {
    const count = state.latents.length / nz, chosen = classes.length ? $("rows").value : "";
    if (!classes.length || chosen !== "") return { ofEach: count, labels: new Array(count).fill(Number(chosen)) };
    const ofEach = count / Math.min(classes.length, shown.rows);
    return { ofEach, labels: Array.from({ length: count }, (_, i) => Math.floor(i / ofEach)), named: true };
  }

  let wave = 0; // a later draw ends the painting of an earlier one
  async function makeTiles() {
    const mine = ++wave;
    const { ofEach, labels, named } = arrangement();
    const columns = Math.min(ofEach, 8);
    const tiles = $("tiles");
    tiles.style.gridTemplateColumns = `${named ? "auto " : ""}repeat(${columns}, minmax(0, 1fr))`;
    tiles.replaceChildren(...labels.flatMap((label, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(document.createElement("canvas"));
      button.addEventListener("click", () => pick(i));
      button.dataset.name = `image ${i + 1}${classes.length ? `, class ${classes[label]}` : ""}`;
      if (!named || (i % ofEach) % columns) return [button];
      const name = document.createElement("span");
      name.textContent = i % ofEach ? "" : classes[label];
      return [name, button];
    }));
    const buttons = all("#tiles button");
    tiles.onkeydown = (event) => {
      const at = buttons.indexOf(event.target);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0,
        End: buttons.length - 1 }[event.key];
      if (to === undefined || !buttons[to]) return;
      event.preventDefault();
      buttons.forEach((button, i) => { button.tabIndex = i === to ? 0 : -1; });
      buttons[to].focus();
    };
    buttons.forEach((button, i) => { button.tabIndex = i ? -1 : 0; });
    state.labels = labels;
    state.samples = new Float32Array(labels.length * size);
    for (let i = 0; i < labels.length; i += CHUNK) {
      const end = Math.min(i + CHUNK, labels.length);
      const values = await generate(state.latents.slice(i * nz, end * nz), labels.slice(i, end));
      if (mine !== wave) return;
      state.samples.set(values, i * size);
      for (let k = i; k < end; k++) paint(buttons[k].firstChild, values, (k - i) * size);
    }
  }

  function mark() {
    all("#tiles button").forEach((button, i) => {
      const name = i === state.a ? "A" : i === state.b ? "B" : "";
      button.toggleAttribute("data-mark", Boolean(name));
      if (name) button.dataset.mark = name;
      button.setAttribute("aria-pressed", String(Boolean(name)));
      button.setAttribute("aria-label", button.dataset.name + (name && `, chosen as ${name}`));
    });
  }

  // Points

  const LINES = ["#e69f00", "#cc79a7", "#009e73", "#56b4e9"]; // as in the pictures of a run
  let logits = null, path = null, dot = null;

  async function askDiscriminators() {
    if (!discriminators) return;
    const { grid, half } = shown;
    const plane = new Float32Array(grid * grid * 2);
    for (let row = 0; row < grid; row++) {
      for (let column = 0; column < grid; column++) {
        plane[2 * (row * grid + column)] = -half + (2 * half * column) / (grid - 1);
        plane[2 * (row * grid + column) + 1] = -half + (2 * half * row) / (grid - 1);
      }
    }
    const inputs = { points: new ort.Tensor("float32", plane, [grid * grid, 2]) };
    logits = (await inTurn(() => discriminators.run(inputs))).logits.data;
  }

  /** Line segments on which a field on the grid is 0, in steps of the grid: [x, y, x, y], two ends each. */
  function boundary(field) {
    const { grid } = shown;
    const segments = [];
    for (let y = 0; y + 1 < grid; y++) {
      for (let x = 0; x + 1 < grid; x++) {
        const at = (dx, dy) => field[(y + dy) * grid + x + dx];
        const corners = [[0, 0], [1, 0], [1, 1], [0, 1]];
        const crossings = [];
        corners.forEach(([x0, y0], i) => {
          const [x1, y1] = corners[(i + 1) % 4];
          const [from, to] = [at(x0, y0), at(x1, y1)];
          if (from < 0 === to < 0) return;
          const share = from / (from - to);
          crossings.push(x + x0 + share * (x1 - x0), y + y0 + share * (y1 - y0));
        });
        for (let i = 0; i + 3 < crossings.length; i += 4) segments.push(crossings.slice(i, i + 4));
      }
    }
    return segments;
  }

  function groundOf() {
    const { grid } = shown;
    const canvas = new OffscreenCanvas(grid, grid);
    const pixels = new ImageData(grid, grid);
    for (let i = 0; i < grid * grid; i++) {
      let real = 0;
      for (let k = 0; k < shown.discriminators; k++) real += 1 / (1 + Math.exp(-logits[k * grid * grid + i]));
      const lean = (2 * real) / shown.discriminators - 1;
      const row = grid - 1 - Math.floor(i / grid); // y points upwards
      const color = lean < 0 ? [214, 96, 77] : [67, 147, 195];
      pixels.data.set([...color, 150 * Math.abs(lean)], 4 * (row * grid + (i % grid)));
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  function plot() {
    if (!state.samples) return;
    const canvas = $("plot"), { half, grid, centers } = shown;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.body);
    const [ink, muted, accent] = ["--ink", "--muted", "--accent"].map((name) => colorOf(style, name));
    const x = (value) => ((value + half) / (2 * half)) * side, y = (value) => side - x(value);
    const unit = devicePixelRatio;
    const circle = (px, py, radius, fill, stroke) => {
      context.beginPath();
      context.arc(px, py, radius * unit, 0, 2 * Math.PI);
      if (fill) { context.fillStyle = fill; context.fill(); }
      if (stroke) { context.strokeStyle = stroke; context.stroke(); }
    };
    if (logits && $("ground").checked) context.drawImage(groundOf(), 0, 0, side, side);
    context.lineWidth = 1.5 * unit;
    for (const [mx, my] of centers) circle(x(mx), y(my), 9, null, muted);
    context.globalAlpha = 0.55;
    for (let i = 0; i < state.samples.length; i += 2) circle(x(state.samples[i]), y(state.samples[i + 1]), 1.6, ink);
    context.globalAlpha = 1;
    for (const box of all(".boundary")) {
      if (!box.checked || !logits) continue;
      const k = Number(box.value), step = side / (grid - 1);
      context.strokeStyle = LINES[k % LINES.length];
      context.setLineDash(k < LINES.length ? [] : [6 * unit, 4 * unit]);
      context.lineWidth = 2 * unit;
      context.beginPath();
      for (const [x0, y0, x1, y1] of boundary(logits.subarray(k * grid * grid, (k + 1) * grid * grid))) {
        context.moveTo(x0 * step, side - y0 * step);
        context.lineTo(x1 * step, side - y1 * step);
      }
      context.stroke();
      context.setLineDash([]);
    }
    if (path && state.b !== null) {
      context.strokeStyle = accent;
      context.lineWidth = 2 * unit;
      context.beginPath();
      for (let i = 0; i < path.length; i += 2) context.lineTo(x(path[i]), y(path[i + 1]));
      context.stroke();
    }
    context.font = `700 ${14 * unit}px ${style.fontFamily}`;
    for (const [i, name] of [[state.a, "A"], [state.b, "B"]]) {
      if (i === null) continue;
      const [px, py] = [x(state.samples[2 * i]), y(state.samples[2 * i + 1])];
      circle(px, py, 4, accent);
      context.lineWidth = 4 * unit;
      context.strokeStyle = colorOf(style, "--paper");
      const [tx, ty] = [Math.min(px + 7 * unit, side - 16 * unit), Math.max(py - 7 * unit, 16 * unit)];
      context.strokeText(name, tx, ty);
      context.fillStyle = ink;
      context.fillText(name, tx, ty);
    }
    context.lineWidth = 2.5 * unit;
    if (dot) circle(x(dot[0]), y(dot[1]), 6.5, accent, colorOf(style, "--paper"));
  }

  // light-dark() resolves in a colour, not in a custom property.
  function colorOf(style, name) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  async function makePoints() {
    state.samples = await generate(state.latents);
  }

  async function makePath() {
    if (state.b === null) return;
    const steps = 65, ways = new Float32Array(steps * nz);
    for (let i = 0; i < steps; i++) ways.set(between(latent(state.a), latent(state.b), i / (steps - 1)), i * nz);
    path = await generate(ways);
  }

  // Both

  let showing = false, stale = false;
  async function show() {
    stale = true;
    if (showing) return;
    showing = true;
    try {
      while (stale) { // a slider moves faster than a network computes
        stale = false;
        const now = currentLatent();
        for (const slider of all("[data-latent]")) {
          const value = now[Number(slider.dataset.latent)];
          slider.value = value;
          slider.nextElementSibling.textContent = value.toFixed(2);
        }
        const values = await generate(now, [state.label]);
        if (ofPoints) { dot = values; plot(); } else paint($("large"), values, 0);
      }
    } finally {
      showing = false;
    }
  }

  async function choose(a, b) {
    stop();
    Object.assign(state, { a, b, share: 0, label: classes.length ? state.labels[a] : 0 });
    state.changed.clear();
    $("share").value = 0;
    $("share").disabled = $("play").disabled = b === null;
    if (classes.length) $("class").value = state.label;
    if (ofPoints) {
      $("a").value = a + 1;
      $("b").value = b === null ? "" : b + 1;
      await makePath();
    } else mark();
    await show();
  }

  const pick = (i) => guarded(() => (state.b === null && i !== state.a ? choose(state.a, i) : choose(i, null)));

  async function draw() {
    const number = Math.min(4294967295, Math.max(0, Math.floor($("draw").valueAsNumber) || 0));
    $("draw").value = number;
    $("drawn").textContent = number === 0
      ? `Draw 0 has the latents of d3gan sample --seed ${shown.seed}.`
      : `Draw ${number} was made in the browser; the same number gives the same latents.`;
    state.latents = latentsOf(number);
    if (ofPoints) await makePoints();
    else await makeTiles();
    await choose(0, 1);
  }

  let playing = 0;
  function stop() {
    cancelAnimationFrame(playing);
    playing = 0;
    $("play").textContent = "Play";
  }

  function play() {
    if (playing) return stop();
    const begin = performance.now(), from = state.share < 1 ? state.share : 0;
    $("play").textContent = "Pause";
    const step = (now) => {
      const done = from + Math.max(0, now - begin) / 4000;
      // To B and back, over and over.
      state.share = 1 - Math.abs(1 - (done % 2));
      state.changed.clear();
      $("share").value = state.share;
      playing = requestAnimationFrame(step);
      guarded(show);
    };
    playing = requestAnimationFrame(step);
  }

  let settled = Promise.resolve();
  function guarded(work) {
    const done = work().catch((error) => {
      stop();
      $("status").textContent = `The network could not be computed: ${error.message ?? error}`;
    });
    settled = Promise.all([settled, done]);
    return done;
  }

  function listen() {
    $("new").addEventListener("click", () => {
      $("draw").value = ($("draw").valueAsNumber || 0) + 1;
      guarded(draw);
    });
    $("draw").addEventListener("change", () => guarded(draw));
    $("share").addEventListener("input", () => {
      stop();
      state.changed.clear();
      state.share = $("share").valueAsNumber;
      guarded(show);
    });
    $("play").addEventListener("click", play);
    $("reset").addEventListener("click", () => { state.changed.clear(); guarded(show); });
    for (const slider of all("[data-latent]")) {
      slider.addEventListener("input", () => {
        stop();
        state.changed.set(Number(slider.dataset.latent), slider.valueAsNumber);
        guarded(show);
      });
    }
    if (classes.length) {
      $("class").addEventListener("change", () => { state.label = Number($("class").value); guarded(show); });
      $("rows").addEventListener("change", () => guarded(draw));
    }
    if (!ofPoints) return;
    const count = drawnByPython.length / nz;
    for (const id of ["a", "b"]) {
      $(id).max = count;
      $(id).addEventListener("change", () => {
        const [a, b] = ["a", "b"].map((each) => Math.min(count, Math.max(1, $(each).valueAsNumber || 1)) - 1);
        guarded(() => choose(a, b === a ? null : b));
      });
    }
    $("plot").addEventListener("click", (event) => {
      const { half } = shown, side = $("plot").clientWidth;
      const [px, py] = [(event.offsetX / side) * 2 * half - half, half - (event.offsetY / side) * 2 * half];
      let nearest = 0, least = Infinity;
      for (let i = 0; i < count; i++) {
        const distance = (state.samples[2 * i] - px) ** 2 + (state.samples[2 * i + 1] - py) ** 2;
        if (distance < least) [nearest, least] = [i, distance];
      }
      pick(nearest);
    });
    for (const box of all(".layers input")) box.addEventListener("change", plot);
    for (const line of all(".line")) {
      const k = Number(line.dataset.line);
      line.style.borderTopColor = LINES[k % LINES.length];
      line.style.borderTopStyle = k < LINES.length ? "solid" : "dashed";
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plot);
    new ResizeObserver(plot).observe($("plot"));
  }

  const ready = guarded(async () => {
    await load();
    listen();
    if (ofPoints) await askDiscriminators();
    await draw();
    $("status").textContent = "";
  });
  // For the console.
  window.d3gan = { ready, state, generate, between, get logits() { return logits; }, get settled() { return settled; } };
})();
