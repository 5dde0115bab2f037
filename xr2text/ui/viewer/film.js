// A radiograph with its window, zoom and regions. `element` is the component's root; `props.film` and `props.maps` are what
// `viewer.film_view` and `viewer.map_views` gave. How regions are laid over the radiograph stands in
// inference/overlay.py, whose settings come as `props.blending`. The report beside it stands in report.js.
const find = (selector) => element.querySelector(selector), all = (selector) => element.querySelectorAll(selector);
const room = find(".room"), readonly = room.classList.contains("compare");
const canvas = find("canvas"), context = canvas.getContext("2d");
const level = find(".level"), width = find(".width"), opacity = find(".opacity");
const state = {
  film: null, maps: null, view: null, grey: null, base: null, regions: [], layers: [], shown: new Set(), hovered: null,
  sentence: null, region: null, zoom: 1, x: 0, y: 0, invert: false, mode: "window", lateral: false,
  opening: "", // the label of the study that was asked for
};
const sentences = () => state.view?.sentences ?? [];
// The regions that a sentence was written from: each has at least half the weight of the first.
const placesOf = ({ weights }) => state.regions.filter((_, k) => weights[k] >= 0.5 * Math.max(...weights));
// Whether the lateral view is one of its places: it has as much as half of the first region's.
const fromLateral = ({ weights, lateral }) => lateral > 0 && lateral >= 0.5 * (1 - lateral) * Math.max(...weights);
const namesOf = (sentence) => [...placesOf(sentence).map((region) => region.name),
  ...(fromLateral(sentence) ? ["lateral view"] : [])].join(", ");
const lit = () => { // the sentence whose place is shown
  const chosen = state.hovered ?? state.sentence;
  return chosen !== null && sentences()[chosen]?.weights.length ? chosen : null;
};

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
  const opaque = Uint8Array.from({ length: 256 }, (_, value) => Math.round(255 * Math.max(0, (value / 255 - floor) / (1 - floor))));
  const [layer, drawing] = newCanvas(w, h), out = drawing.createImageData(w, h);
  for (let at = 0; at < data.length; at += 4) {
    out.data[at] = red;
    out.data[at + 1] = green;
    out.data[at + 2] = blue;
    out.data[at + 3] = opaque[data[at]];
  }
  drawing.putImageData(out, 0, 0);
  const at = (x, y) => data[4 * (Math.min(h - 1, Math.floor(y * h)) * w + Math.min(w - 1, Math.floor(x * w)))];
  return { colour, layer, line: edgeOf(pixelsOf(image, grey.width, grey.height), 255 * outline), at };
}

// The line through the outermost pixels that reach a level.
function edgeOf({ width: w, height: h, data }, level) {
  const row = w + 2, inside = new Uint8Array(row * (h + 2)), edge = new Uint8Array(inside.length); // with a margin of 1
  for (let y = 0, from = 0; y < h; y++) {
    for (let to = (y + 1) * row + 1, end = to + w; to < end; to++, from += 4) inside[to] = data[from] >= level ? 1 : 0;
  }
  for (let at = row; at < inside.length - row; at++) {
    edge[at] = inside[at] & ~(inside[at - 1] & inside[at + 1] & inside[at - row] & inside[at + row]);
  }
  const line = new Path2D();
  for (let at = row; at < inside.length - row; at++) {
    if (!edge[at]) continue;
    const x = at % row - 0.5, y = Math.floor(at / row) - 0.5;
    for (const [step, i, j] of [[1, 1, 0], [row - 1, -1, 1], [row, 0, 1], [row + 1, 1, 1]]) {
      if (!edge[at + step]) continue;
      line.moveTo(x, y);
      line.lineTo(x + i, y + j);
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
  const { regions, region, shown } = state, sentence = lit();
  if (sentence !== null) {
    const weights = sentences()[sentence].weights, most = Math.max(...weights);
    return weights.map((weight) => weight / most);
  }
  return regions.map((_, k) => (region === null ? shown.has(k) : region === k) ? 1 : 0);
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
  if (state.lateral) {
    drawLateral();
    return;
  }
  if (!layers.length) return;
  const { mixing, outline_opacity: lineOpacity } = props.blending;
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

// The attention to the lateral view, as strong as a sentence was written from it.
function drawLateral() {
  if (!state.lateralLayer) return;
  const { base } = state, said = lit() === null ? null : sentences()[lit()];
  const most = said ? Math.max(said.lateral, (1 - said.lateral) * Math.max(0, ...said.weights)) : 1;
  context.globalAlpha = (said ? said.lateral / most : 1) * Math.max(said ? 0.6 : 0, opacity.value / 100);
  context.drawImage(state.lateralLayer.layer, 0, 0, base.width, base.height);
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
  const { regions, region } = state, sentence = lit();
  all(".sentence").forEach((item) => {
    const i = Number(item.dataset.number), said = sentences()[i];
    const fromRegion = region !== null && said?.weights.length && placesOf(said).includes(regions[region]);
    item.classList.toggle("lit", i === sentence || Boolean(fromRegion));
  });
  all(".legend button.name").forEach((name, k) => {
    name.setAttribute("aria-pressed", region === null ? state.shown.has(k) : region === k);
  });
  all(".legend button.only").forEach((only, k) => only.setAttribute("aria-pressed", region === k));
  find(".place").textContent = sentence !== null
    ? `Written most from: ${namesOf(sentences()[sentence])}.`
    : region !== null ? `Only the ${regions[region].name}.` : "";
  canvas.dataset.sentence = sentence ?? "";
  canvas.dataset.region = region === null ? "" : regions[region].name;
  draw();
}

function chooseSentence(i) {
  state.sentence = i;
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
  find(".legend").replaceChildren(...state.regions.map((region, k) => {
    const row = document.createElement("span");
    row.style.setProperty("--colour", region.colour);
    const share = state.view?.weights ? ` ${Math.round(100 * state.view.weights[k])} %` : "";
    const name = button("name", `${region.name}${share}`, `Show ${region.name}`, () => {
      if (state.region !== null || lit() !== null) state.region = state.sentence = null;
      state.shown.has(k) ? state.shown.delete(k) : state.shown.add(k);
      mark();
    });
    name.title = "How much the report drew on this region; all equal: 14 %";
    row.append(name, button("only", "only", `Only ${region.name}`, () => chooseRegion(k)));
    return row;
  }));
}

function resetView() {
  level.value = 50;
  width.value = 100;
  state.zoom = 1;
  state.x = state.y = 0;
  state.invert = false;
  find(".invert").setAttribute("aria-pressed", "false");
  redraw();
}

function zoomBy(factor, x = 0.5, y = 0.5) {
  const before = state.zoom;
  state.zoom = Math.min(8, Math.max(1, before * factor));
  state.x += canvas.width * x * (1 / before - 1 / state.zoom);
  state.y += canvas.height * y * (1 / before - 1 / state.zoom);
  draw();
}

// The radiograph and the maps that have come; gives whether a newer one has come meanwhile.
async function showFilm() {
  const film = props.film ?? null, maps = film ? props.maps ?? [] : [];
  const turn = (state.turn = (state.turn || 0) + 1);
  const newFilm = film?.image !== state.film?.image || film?.lateral !== state.film?.lateral;
  const newMaps = maps !== state.maps;
  const [grey, lateral, ...images] = await Promise.all(
    [film?.image, film?.lateral, ...(newMaps ? maps.map(({ map }) => map) : [])].map((image) => image && load(image)),
  );
  if (turn !== state.turn) return false;
  canvas.hidden = !film;
  find(".open").hidden = Boolean(film);
  if (newFilm) {
    Object.assign(state, { film, lateral: false, views: { frontal: grey, lateral }, region: null, sentence: null });
    showView();
  }
  if (newMaps || newFilm) {
    state.regions = maps.filter((map) => !map.lateral);
    state.maps = maps;
    if (newMaps) {
      const layers = images.map((map, k) => regionLayer(map, maps[k].colour, props.blending, grey));
      state.layers = layers.slice(0, state.regions.length);
      state.lateralLayer = layers[state.regions.length] ?? null;
    }
    state.shown = new Set(state.regions.map((_, k) => k));
  }
  return true;
}

// The frontal or the lateral radiograph on the stage.
function showView() {
  const image = state.views[state.lateral ? "lateral" : "frontal"];
  state.grey = image ? pixelsOf(image) : null;
  state.base = null;
  if (image) [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  room.classList.toggle("lateral", state.lateral);
  resetView();
}

function redraw() {
  if (state.grey) { windowed(); draw(); }
}

function chooseMode(mode) {
  state.mode = mode;
  canvas.dataset.mode = mode;
  find(".mode.window").setAttribute("aria-pressed", mode === "window");
  find(".mode.move").setAttribute("aria-pressed", mode === "move");
}

function toggleInvert() {
  state.invert = !state.invert;
  find(".invert").setAttribute("aria-pressed", state.invert);
  redraw();
}

for (const control of [level, width]) control.addEventListener("input", redraw);
opacity.addEventListener("input", draw);
find(".mode.window").addEventListener("click", () => chooseMode("window"));
find(".mode.move").addEventListener("click", () => chooseMode("move"));
find(".invert").addEventListener("click", toggleInvert);
find(".in").addEventListener("click", () => zoomBy(1.4));
find(".out").addEventListener("click", () => zoomBy(1 / 1.4));
find(".reset").addEventListener("click", resetView);
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}, { passive: false });
let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, width: Number(width.value), level: Number(level.value), moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (Math.hypot(dx, dy) > 4) drag.moved = true;
  if (!drag.moved) return;
  if (state.mode === "window" && event.pointerType !== "touch") { // a finger scrolls the page
    width.value = drag.width + dx / 4; // from where the drag began: the sliders round
    level.value = drag.level + dy / 4;
    windowed();
  } else {
    const scale = canvas.width / canvas.getBoundingClientRect().width / state.zoom;
    state.x -= dx * scale;
    state.y -= dy * scale;
    Object.assign(drag, { x: event.clientX, y: event.clientY });
  }
  draw();
});
canvas.addEventListener("pointercancel", () => { drag = null; });
canvas.addEventListener("pointerup", (event) => {
  const clicked = drag && !drag.moved;
  drag = null;
  if (!clicked || !state.regions.length || state.lateral) return;
  const box = canvas.getBoundingClientRect();
  const x = (state.x + (event.clientX - box.left) / box.width * canvas.width / state.zoom) / canvas.width;
  const y = (state.y + (event.clientY - box.top) / box.height * canvas.height / state.zoom) / canvas.height;
  const values = state.layers.map(({ at }) => at(x, y)), most = Math.max(...values);
  if (most >= 255 * props.blending.outline) chooseRegion(values.indexOf(most));
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
  event.stopPropagation();
});
