// A radiograph with its window, zoom and regions, and beside it the report's sentences. Runs once for each viewer of the
// page. `element` is its root, `props.value` what `viewer.view` gave, `watch` calls when there is a new value. How regions
// are laid over the radiograph stands in inference/overlay.py, whose settings come as `view.blending`.
const find = (selector) => element.querySelector(selector);
const canvas = find("canvas"), context = canvas.getContext("2d");
const level = find(".level"), width = find(".width"), opacity = find(".opacity");
const state = {
  view: null, grey: null, base: null, layers: [], shown: new Set(), hovered: null, sentence: null, region: null,
  zoom: 1, x: 0, y: 0, invert: false,
};
// The regions that a sentence was written from: each has at least half the weight of the first.
const placesOf = ({ weights }) => state.view.regions.filter((_, k) => weights[k] >= 0.5 * Math.max(...weights));
const namesOf = (sentence) => placesOf(sentence).map((region) => region.name).join(", ");
const lit = () => state.hovered ?? state.sentence; // the sentence whose place is shown

const load = (source) => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done(image);
  image.onerror = failed;
  image.src = source;
});

function newCanvas(w, h) {
  const made = document.createElement("canvas");
  made.width = w;
  made.height = h;
  return [made, made.getContext("2d", { willReadFrequently: true })];
}

function pixelsOf(image, w = image.naturalWidth, h = image.naturalHeight) {
  const [, drawing] = newCanvas(w, h);
  drawing.drawImage(image, 0, 0, w, h);
  return drawing.getImageData(0, 0, w, h);
}

// A region: its colour as opaque as its attention, the line around its peak, and the attention (0 to 255) at a place.
function regionLayer(image, colour, { floor, outline }, grey) {
  const { width: w, height: h, data } = pixelsOf(image);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const [layer, drawing] = newCanvas(w, h), out = drawing.createImageData(w, h);
  for (let at = 0; at < out.data.length; at += 4) {
    out.data.set([red, green, blue, Math.round(255 * Math.max(0, (data[at] / 255 - floor) / (1 - floor)))], at);
  }
  drawing.putImageData(out, 0, 0);
  const at = (x, y) => data[4 * (Math.min(h - 1, Math.floor(y * h)) * w + Math.min(w - 1, Math.floor(x * w)))];
  return { colour, layer, line: edgeOf(pixelsOf(image, grey.width, grey.height), 255 * outline), at };
}

// The line through the outermost pixels that reach a level.
function edgeOf({ width: w, height: h, data }, level) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < w && y < h && data[4 * (y * w + x)] >= level;
  const edge = (x, y) => inside(x, y) && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1));
  const line = new Path2D();
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!edge(x, y)) continue;
      for (const [i, j] of [[x + 1, y], [x - 1, y + 1], [x, y + 1], [x + 1, y + 1]]) {
        if (!edge(i, j)) continue;
        line.moveTo(x + 0.5, y + 0.5);
        line.lineTo(i + 0.5, j + 0.5);
      }
    }
  }
  return line;
}

function windowed() {
  const { grey, invert } = state, out = new ImageData(grey.width, grey.height);
  const middle = 2.55 * level.value, half = Math.max(1, 1.275 * width.value);
  const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => {
    const shown = 255 * (value - middle + half) / (2 * half);
    return invert ? 255 - Math.min(255, Math.max(0, shown)) : shown;
  });
  for (let at = 0; at < grey.data.length; at += 4) {
    const shown = table[grey.data[at]];
    out.data[at] = out.data[at + 1] = out.data[at + 2] = shown;
    out.data[at + 3] = 255;
  }
  const [base, drawing] = newCanvas(grey.width, grey.height);
  drawing.putImageData(out, 0, 0);
  state.base = base;
}

// How strongly each region is drawn: by a sentence's weights, one region alone, or those that are switched on.
function strengths() {
  const { view, region, shown } = state, sentence = lit();
  if (sentence !== null) {
    const weights = view.sentences[sentence].weights, most = Math.max(...weights);
    return weights.map((weight) => weight / most);
  }
  return view.regions.map((_, k) => (region === null ? shown.has(k) : region === k) ? 1 : 0);
}

function draw() {
  if (!state.base) return;
  const { base, zoom, layers } = state;
  const slackX = base.width * (1 - 1 / zoom), slackY = base.height * (1 - 1 / zoom);
  state.x = Math.min(slackX, Math.max(0, state.x));
  state.y = Math.min(slackY, Math.max(0, state.y));
  const place = [zoom, 0, 0, zoom, -state.x * zoom, -state.y * zoom];
  context.globalCompositeOperation = "source-over";
  context.setTransform(...place);
  context.drawImage(base, 0, 0);
  if (!layers.length) return;
  const { mixing, outline_opacity: lineOpacity } = state.view.blending;
  const alpha = lit() === null ? opacity.value / 100 : Math.max(0.6, opacity.value / 100), shown = strengths();
  context.globalCompositeOperation = mixing;
  layers.forEach(({ layer }, k) => {
    context.globalAlpha = alpha * shown[k];
    if (shown[k] > 0) context.drawImage(layer, 0, 0, base.width, base.height);
  });
  context.globalAlpha = Math.min(1, lineOpacity * alpha);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(drawLines(place, shown), 0, 0);
  context.globalAlpha = 1;
}

// All regions' lines on a canvas of their own; a dark line under each keeps it legible on white bone.
function drawLines(place, shown) {
  const { base, layers } = state, [lines, drawing] = newCanvas(base.width, base.height);
  const thin = Math.max(1, Math.round(Math.max(base.width, base.height) / 512));
  drawing.setTransform(...place);
  drawing.lineCap = "round";
  for (const [width, dark] of [[2 * thin + 1.5, true], [thin + 2, false]]) { // as wide as OpenCV draws 2 * thin and thin
    drawing.lineWidth = width;
    layers.forEach(({ colour, line }, k) => {
      drawing.globalAlpha = shown[k];
      drawing.strokeStyle = dark ? "black" : colour;
      if (shown[k] > 0) drawing.stroke(line);
    });
  }
  return lines;
}

function mark() {
  const { view, region } = state, sentence = lit();
  element.querySelectorAll(".sentence").forEach((item, i) => {
    const fromRegion = region !== null && placesOf(view.sentences[i]).includes(view.regions[region]);
    item.classList.toggle("lit", i === sentence || fromRegion);
    item.setAttribute("aria-pressed", i === state.sentence);
  });
  element.querySelectorAll(".legend button.name").forEach((name, k) => {
    name.setAttribute("aria-pressed", region === null ? state.shown.has(k) : region === k);
  });
  element.querySelectorAll(".legend button.only").forEach((only, k) => only.setAttribute("aria-pressed", region === k));
  find(".place").textContent = sentence !== null && view.sentences[sentence].weights.length
    ? `Written most from: ${namesOf(view.sentences[sentence])}.`
    : region !== null ? `Only the ${view.regions[region].name}.` : "";
  canvas.dataset.sentence = sentence ?? "";
  canvas.dataset.region = region === null ? "" : view.regions[region].name;
  draw();
}

function chooseSentence(i) {
  state.sentence = state.sentence === i || !state.view.sentences[i].weights.length ? null : i;
  state.region = null;
  mark();
}

function chooseRegion(k) {
  state.region = state.region === k ? null : k;
  state.sentence = null;
  mark();
}

function button(className, text, label, action) {
  const made = Object.assign(document.createElement("button"), { type: "button", className, textContent: text });
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

function writeLegend() {
  const legend = find(".legend");
  legend.replaceChildren(...state.view.regions.map((region, k) => {
    const row = document.createElement("span");
    row.style.setProperty("--colour", region.colour);
    row.append(
      button("name", region.name, `Show ${region.name}`, () => {
        if (state.region !== null || state.sentence !== null) state.region = state.sentence = null;
        state.shown.has(k) ? state.shown.delete(k) : state.shown.add(k);
        mark();
      }),
      button("only", "only", `Only ${region.name}`, () => chooseRegion(k)),
    );
    return row;
  }));
}

function writeSentences() {
  for (const section of ["findings", "impression"]) {
    const items = state.view.sentences.map((sentence, i) => [sentence, i]).filter(([{ section: of }]) => of === section);
    find(`.${section}`).replaceChildren(...items.map(([sentence, i]) => {
      const item = button("sentence", sentence.text, "", () => chooseSentence(i));
      const region = state.view.regions.find(({ name }) => name === sentence.region);
      item.style.setProperty("--colour", region ? region.colour : "transparent");
      item.classList.toggle("doubtful", sentence.confidence === "low");
      const note = document.createElement("small");
      note.textContent = sentence.confidence
        ? `${namesOf(sentence)}; ${sentence.confidence} confidence` : "written by a person";
      item.append(note);
      item.addEventListener("mouseenter", () => { if (sentence.weights.length) { state.hovered = i; mark(); } });
      item.addEventListener("mouseleave", () => { state.hovered = null; mark(); });
      return item;
    }));
  }
}

function resetView() {
  level.value = 50;
  width.value = 100;
  state.zoom = 1;
  state.x = state.y = 0;
  state.invert = false;
  find(".invert").setAttribute("aria-pressed", "false");
  if (state.grey) { windowed(); draw(); }
}

function zoomBy(factor, x = 0.5, y = 0.5) {
  const before = state.zoom;
  state.zoom = Math.min(8, Math.max(1, before * factor));
  state.x += canvas.width * x * (1 / before - 1 / state.zoom);
  state.y += canvas.height * y * (1 / before - 1 / state.zoom);
  draw();
}

async function show() {
  const view = props.value && typeof props.value === "object" ? props.value : null;
  const turn = (state.turn = (state.turn || 0) + 1);
  element.querySelector(".reader").dataset.ready = "";
  if (!view) {
    Object.assign(state, { view: null, grey: null, base: null });
    canvas.hidden = true;
    find(".empty").hidden = false;
    find(".legend").replaceChildren();
    for (const section of ["findings", "impression"]) find(`.${section}`).replaceChildren();
    element.querySelector(".reader").dataset.ready = "empty";
    return;
  }
  const [grey, ...maps] = await Promise.all([view.image, ...view.regions.map(({ map }) => map)].map(load));
  if (turn !== state.turn) return; // a newer view came meanwhile
  const same = state.view && state.view.image === view.image;
  Object.assign(state, { view, hovered: null, sentence: null, region: null });
  if (!same) {
    state.grey = pixelsOf(grey);
    canvas.width = grey.naturalWidth;
    canvas.height = grey.naturalHeight;
    state.shown = new Set(view.regions.map((_, k) => k));
  }
  state.layers = maps.map((map, k) => regionLayer(map, view.regions[k].colour, view.blending, grey));
  if (same && !state.hadRegions) state.shown = new Set(view.regions.map((_, k) => k));
  state.hadRegions = view.regions.length > 0;
  canvas.hidden = false;
  find(".empty").hidden = true;
  writeLegend();
  writeSentences();
  same ? windowed() : resetView();
  mark();
  element.querySelector(".reader").dataset.ready = view.sentences.length ? "report" : "image";
}

for (const control of [level, width]) control.addEventListener("input", () => { if (state.grey) { windowed(); draw(); } });
opacity.addEventListener("input", draw);
find(".invert").addEventListener("click", (event) => {
  state.invert = !state.invert;
  event.currentTarget.setAttribute("aria-pressed", state.invert);
  if (state.grey) { windowed(); draw(); }
});
find(".in").addEventListener("click", () => zoomBy(1.4));
find(".out").addEventListener("click", () => zoomBy(1 / 1.4));
find(".reset").addEventListener("click", resetView);
canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.shiftKey && state.zoom === 1 && event.deltaY > 0) return; // the page scrolls on
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}, { passive: false });
let drag = null;
canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (Math.hypot(dx, dy) > 4) drag.moved = true;
  if (!drag.moved || state.zoom === 1) return;
  const scale = canvas.width / canvas.getBoundingClientRect().width / state.zoom;
  state.x -= dx * scale;
  state.y -= dy * scale;
  Object.assign(drag, { x: event.clientX, y: event.clientY });
  draw();
});
canvas.addEventListener("pointerup", (event) => {
  const clicked = drag && !drag.moved;
  drag = null;
  if (!clicked || !state.view || !state.view.regions.length) return;
  const box = canvas.getBoundingClientRect();
  const x = (state.x + (event.clientX - box.left) / box.width * canvas.width / state.zoom) / canvas.width;
  const y = (state.y + (event.clientY - box.top) / box.height * canvas.height / state.zoom) / canvas.height;
  const values = state.layers.map(({ at }) => at(x, y)), most = Math.max(...values);
  if (most >= 255 * state.view.blending.outline) chooseRegion(values.indexOf(most));
  else if (state.region !== null) chooseRegion(state.region);
});
canvas.addEventListener("keydown", (event) => {
  const step = canvas.width / state.zoom / 10;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === "+" || event.key === "=") zoomBy(1.4);
  else if (event.key === "-") zoomBy(1 / 1.4);
  else if (event.key === "0") resetView();
  else if (moves[event.key] && state.zoom > 1) { state.x += moves[event.key][0]; state.y += moves[event.key][1]; draw(); }
  else return;
  event.preventDefault();
});
watch("value", show);
show();
