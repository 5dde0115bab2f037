// What a reader does with the page: opens files, asks for the report, saves it, steps through a batch.
const picker = find(".files");
let place = "frontal"; // where the files go that are chosen next
let awaited = 0; // studies that were asked for and have not come

// Sends an event to the server; until it answers, `busy` says what is being done.
function ask(name, data, busy = "") {
  if (busy) showBusy(busy);
  room.dataset.ready = "";
  trigger(name, data);
}

// What is being done, or that nothing is. Until a study comes that was asked for, the former one is dimmed and held.
function showBusy(doing) {
  const opening = Boolean(state.opening), busy = opening ? "Opening the radiograph …" : doing;
  find(".busy").textContent = busy;
  find(".busy").hidden = !busy;
  room.classList.toggle("opening", opening);
  all(".write, .report > :not(.head)").forEach((part) => { part.inert = opening; });
  room.dataset.ready = busy ? "" : state.view?.label ? "report" : state.film ? "image" : "empty";
}

async function open(files, where = "frontal") {
  if (!files.length) return;
  showBusy(files.length > 1 ? `Sending ${files.length} files …` : "Sending the file …");
  try {
    const sent = await Promise.all([...files].map(upload)), paths = sent.map(({ path }) => path);
    if (files.length > 2) {
      document.dispatchEvent(new CustomEvent("xr2text:batch", { detail: paths }));
      refresh();
    } else ask("sent", { paths, where, write: find(".auto").checked }, "Reading the radiograph …");
  } catch {
    await refresh();
    writeStatus({ text: "The file could not be sent: it may be too large, or the connection is gone.", tone: "bad", details: [] });
  }
}

function choose(where) {
  place = where;
  picker.click();
}

function writeExamples() {
  find(".examples").replaceChildren(...(props.examples ?? []).map(({ name, image, about }, number) => {
    const item = button("example", "", `Open the example ${name}`, () => ask("example", { number, write: find(".auto").checked },
      "Reading the radiograph …"));
    item.append(Object.assign(document.createElement("img"), { src: image, alt: "" }), part("span", "", name), part("small", "", about));
    return item;
  }));
}

// The two views of a study: which one stands on the stage, and a place for the lateral one.
function writeViews() {
  const views = find(".views"), film = state.film;
  views.replaceChildren();
  if (!film || readonly && !film.lateral) return;
  if (!film.lateral) {
    if (props.lateral && state.view?.adds) views.append(button("add-lateral", "+ Lateral view", "", () => choose("lateral")));
    return;
  }
  for (const which of ["frontal", "lateral"]) {
    const press = button(which, which === "frontal" ? "Frontal" : "Lateral", "", () => {
      state.lateral = which === "lateral";
      showView();
      keepFocus(writeViews);
    });
    press.setAttribute("aria-pressed", state.lateral === (which === "lateral"));
    views.append(press);
  }
}

function writeSaves() {
  const saves = Object.entries(state.view?.saves ?? {}).map(([name, [text, possible]]) => {
    const press = button(`save ${name}`, text, `Save ${text}`, () => trigger("save", { label, name }));
    press.disabled = !possible;
    return press;
  });
  if (saves.length) saves.unshift(button("copy", "Copy", "Copy the report's text", () => navigator.clipboard?.writeText(
    `Findings:\n${textOf("findings")}\n\nImpression:\n${textOf("impression")}`)));
  if (saves.length && props.keeping) {
    const keep = button("keep", state.view.kept ? "Kept" : "Keep as correction", "", once(() => ask("keep", { label })));
    keep.disabled = state.view.kept;
    saves.push(keep);
  }
  find(".saves").replaceChildren(...saves);
}

function writeSteps() {
  let step = "";
  document.dispatchEvent(new CustomEvent("xr2text:place", { detail: { label: state.view?.label, tell: (text) => { step = text; } } }));
  find(".steps").hidden = !step;
  find(".steps span").textContent = step;
}

// Everything anew from what the server last gave.
async function refresh() {
  room.dataset.ready = "";
  state.said = props.value?.status ?? state.said; // shown even where another answer comes before this one is
  if (!(await showFilm())) return;
  state.late = typing() && props.value?.label === label; // it is shown once nothing is typed any more
  if (state.late) return;
  if (typing()) sendNow(); // of another study: what is typed goes to its own
  state.view = props.value && typeof props.value === "object" ? props.value : null;
  state.hovered = null;
  if (state.sentence !== null && state.sentence >= sentences().length) state.sentence = null;
  find(".credit").textContent = state.film?.credit ?? "";
  find(".keeping").hidden = !props.keeping;
  find(".keeping").textContent = props.keeping ?? "";
  room.classList.toggle("sided", Boolean(state.view?.sides));
  room.classList.toggle("empty", !state.film);
  room.classList.toggle("written", Boolean(state.view?.label)); // also where every sentence was deleted
  writeExamples();
  writeSteps();
  const write = () => [writeLegend, writeReport, writeViews, writeSaves].forEach((part) => part());
  if (state.view?.label === label) keepFocus(write);
  else write();
  mark();
  if (state.view?.view) document.dispatchEvent(new CustomEvent("xr2text:show", { detail: state.view.view }));
  if (state.view?.history) document.dispatchEvent(new CustomEvent("xr2text:history", { detail: state.view }));
  if (state.opening === label || state.view?.status?.tone === "bad") state.opening = "";
  showBusy(state.view?.busy ?? "");
}

function step(by) {
  document.dispatchEvent(new CustomEvent("xr2text:step", { detail: { label: state.opening || label, by } }));
}

// Whether keys are for the page: nothing is typed, and no other part of the page is in front.
function listens(event) {
  const at = event.target;
  return element.offsetParent && !event.altKey && !at.isContentEditable && !at.closest?.("input, select, textarea, dialog[open]");
}

if (!readonly) {
  all(".choose").forEach((press) => press.addEventListener("click", () => choose("frontal")));
  picker.addEventListener("change", () => {
    const files = [...picker.files];
    picker.value = ""; // so that the same file can be chosen again
    open(files, place);
  });
  find(".close").addEventListener("click", () => ask("close", {}));
  find(".write").addEventListener("click", once(() => ask("write", { force: false }, "Writing the report …")));
  find(".help").addEventListener("click", () => find(".keys").showModal());
  find(".previous").addEventListener("click", () => step(-1));
  find(".next").addEventListener("click", () => step(1));
  const stage = find(".stage");
  for (const name of ["dragenter", "dragover"]) {
    stage.addEventListener(name, (event) => { event.preventDefault(); stage.classList.add("over"); });
  }
  stage.addEventListener("dragleave", () => stage.classList.remove("over"));
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    open([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    if (!listens(event) || !event.clipboardData.files.length) return;
    event.preventDefault();
    open([...event.clipboardData.files]);
  });
  document.addEventListener("keydown", (event) => {
    if (!listens(event)) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key !== "z" || find(".edits").hidden || state.opening) return;
      ask("undo", { label });
    } else if (key === "w") chooseMode("window");
    else if (key === "z") chooseMode("move");
    else if (key === "i") toggleInvert();
    else if (key === "r") resetView();
    else if (key === "?") find(".keys").showModal();
    else if (key === "arrowdown" && !find(".steps").hidden) step(1);
    else if (key === "arrowup" && !find(".steps").hidden) step(-1);
    else return;
    event.preventDefault();
  });
  document.addEventListener("xr2text:answered", ({ detail: { name, arrived } }) => {
    if (["row", "reopened"].includes(name) && !--awaited && state.opening) {
      state.opening = "";
      if (arrived) refresh(); // another answer may have been shown in its place
    }
    if (!arrived) showBusy(""); // gradio has said why
    if (name === "edit") edited(arrived);
  });
  window.addEventListener("beforeunload", (event) => {
    if (state.view?.own || sent.length || typing() && sendNow()) event.preventDefault(); // the browser asks
  });
  document.addEventListener("xr2text:opening", ({ detail }) => {
    sendNow(); // which would be too late once the text is held
    state.opening = detail;
    awaited++;
    showBusy();
  });
} else {
  const choice = find(".study");
  document.addEventListener("xr2text:history", ({ detail }) => {
    choice.replaceChildren(new Option("Choose a study", ""), ...detail.history.map((name) => new Option(name)));
    choice.value = detail.history.includes(state.view?.label) ? state.view.label : "";
  });
  const chosen = () => ask("chosen", { label: choice.value });
  choice.addEventListener("change", chosen);
  document.addEventListener("xr2text:show", ({ detail }) => { // the report may have been changed meanwhile
    if (detail === "compare" && choice.value) chosen();
  });
}
chooseMode("window");
watch(["value", "film", "maps"], refresh);
watch(["examples"], writeExamples);
refresh();
