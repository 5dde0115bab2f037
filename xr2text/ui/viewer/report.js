// The report beside the radiograph: sentences that are edited where they are read, findings that a person sets, warnings.
// What a person does is sent to the server, whose answer is shown: nothing here decides what the report says.
let label = ""; // of the study that is shown
let former = ["", ""]; // its two sections as the server last gave or was given them
const sent = []; // edits: the first is on its way, the others wait for its answer
let pause = 2; // seconds until an edit that did not arrive is sent again

// An action that the second click of a double one does not repeat, on what may lie there by then.
const once = (action) => ({ detail }) => { if (detail < 2) action(); };

// Writes something anew; the focus stays on the same control of its part, or goes to the nearest that is left.
function keepFocus(write) {
  const within = document.activeElement?.closest(".findings, .impression, .bars, .edits, .saves, .views, .legend");
  const controls = () => [...within.querySelectorAll("button:enabled, summary")].filter((one) => one.offsetParent);
  const place = within && element.contains(within) ? controls().indexOf(document.activeElement) : -1;
  write();
  if (place >= 0) (controls()[place] ?? controls().at(-1) ?? find(".impression .add"))?.focus({ preventScroll: true });
}

function part(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

function sentenceItem(sentence, i) {
  const item = part("li", `sentence ${sentence.by}`);
  item.dataset.number = i;
  item.classList.toggle("doubtful", sentence.doubtful);
  item.classList.toggle("changed", sentence.changed);
  const region = state.regions.find(({ name }) => name === sentence.region);
  item.style.setProperty("--colour", region ? region.colour : "transparent");
  const note = [sentence.changed ? "changed" : "", sentence.weights.length && state.regions.length ? namesOf(sentence) : "",
    sentence.certainty];
  item.append(textBox(sentence.text, sentence.section), part("small", "", note.filter(Boolean).join("; ")));
  if (!readonly) item.append(button("delete", "×", `Delete: ${sentence.text}`, once(() => {
    keepFocus(() => item.remove());
    sendText();
  })));
  item.addEventListener("mouseenter", () => { state.hovered = i; mark(); });
  item.addEventListener("mouseleave", () => { state.hovered = null; mark(); });
  return item;
}

// The text of a sentence, to be changed in its place.
function textBox(text, section) {
  const box = part("p", "words", text);
  if (readonly) {
    Object.assign(box, { tabIndex: 0 });
  } else {
    box.contentEditable = "plaintext-only";
    box.setAttribute("role", "textbox");
    box.setAttribute("aria-multiline", "false");
    box.setAttribute("aria-label", `A sentence of the ${section}, to edit`);
    box.addEventListener("blur", ({ relatedTarget: next }) => { // a press of a button comes after the text
      if (next && !next.classList.contains("words")) sendTyped();
      else sendText();
    });
  }
  box.addEventListener("focus", () => {
    const number = box.closest(".sentence").dataset.number;
    if (number !== undefined) chooseSentence(Number(number));
  });
  box.addEventListener("keydown", (event) => {
    if (readonly) return;
    if (event.key === "Escape") {
      if (text) box.textContent = text;
      else box.closest(".sentence").remove();
      box.blur();
    } else if (event.key === "Enter") {
      const empty = newSentence(section);
      box.closest(".sentence").after(empty);
      empty.querySelector(".words").focus();
    } else {
      event.stopPropagation();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  return box;
}

function newSentence(section) {
  const item = part("li", "sentence person new");
  item.append(textBox("", section));
  return item;
}

function writeSentences() {
  for (const section of ["findings", "impression"]) {
    const items = sentences().flatMap((sentence, i) => sentence.section === section ? [sentenceItem(sentence, i)] : []);
    find(`.${section}`).replaceChildren(...items);
    if (readonly || !label) continue;
    const add = button("add", "+ Add a sentence", `Add a sentence to the ${section}`, () => {
      const item = newSentence(section);
      add.parentElement.before(item);
      item.querySelector(".words").focus();
    });
    const last = part("li", "");
    last.append(add);
    find(`.${section}`).append(last);
  }
}

// What stands in a box, line by line; innerText has none where the box is hidden.
function linesOf(box) {
  const copy = box.cloneNode(true);
  copy.querySelectorAll("br").forEach((end) => end.replaceWith("\n"));
  return copy.textContent.split(/[\r\n]+/).map((line) => line.trim()).filter(Boolean);
}

// A section's text: each line is a sentence, and one that a person has written ends in a full stop.
function textOf(section) {
  const written = new Set(sentences().filter((one) => one.section === section).map((one) => one.text));
  return [...all(`.${section} .words`)].flatMap(linesOf)
    .map((text) => /[.?!]$/.test(text) || written.has(text) ? text : `${text}.`).join(" ");
}

const typing = () => !readonly && Boolean(find(".words:focus"));

// The text as it stands goes to the server, unless it is what came from there; gives whether it went.
function sendNow() {
  const [findings, impression] = ["findings", "impression"].map(textOf);
  if (!label || findings === former[0] && impression === former[1]) return false;
  const edit = { label, findings, impression, former_findings: former[0], former_impression: former[1] };
  former = [findings, impression];
  if (sent.push(edit) === 1) sendFirst();
  return true;
}

// The same once no sentence is being written any more.
function sendTyped() {
  if (typing() || sendNow()) return;
  if (state.late) refresh();
  else if (find(".new")) writeSentences();
}

const sendText = () => setTimeout(sendTyped); // once it is known what has the focus next

// One at a time: each edit is of the text that the one before has left.
const sendFirst = () => ask("edit", sent[0]);

// The first edit was answered, or did not arrive. Then it is sent again, each time after a longer pause; what the server
// has of it already changes nothing.
function edited(arrived) {
  if (!arrived) {
    writeStatus({ text: `Your text has not reached the server; it is sent again in ${pause} s.`, tone: "bad", details: [] });
    setTimeout(sendFirst, 1000 * pause);
    pause = Math.min(64, 2 * pause);
    return;
  }
  sent.shift();
  if (pause > 2 && !props.value?.status) writeStatus({ text: "Your text has reached the server.", tone: "good", details: [] });
  pause = 2;
  if (sent.length) sendFirst();
}

function findingRow(finding) {
  const row = part("div", "finding");
  row.classList.toggle("seen", finding.seen);
  row.classList.toggle("unknown", !finding.assessed);
  row.title = finding.measure;
  const track = part("div", "track"), bar = part("div", "bar"), line = part("div", "line");
  bar.style.width = `${100 * finding.probability}%`;
  line.style.left = `${100 * finding.threshold}%`;
  track.append(bar, line);
  const value = finding.set ? "by you" : finding.assessed ? `${Math.round(100 * finding.probability)} %` : "not assessed";
  row.append(part("span", "name", finding.name), track, part("span", "value", value));
  if (readonly) return row;
  const choice = part("span", "choice");
  for (const [state_, text] of [["present", "Present"], ["absent", "Absent"]]) {
    const chosen = finding.set === state_;
    const name = chosen ? `${finding.name}: back to what the model sees` : `Set ${finding.name} to ${state_}`;
    const press = button(state_, text, name, once(() =>
      ask("set", { label, finding: finding.name, state: chosen ? "" : state_ })));
    press.setAttribute("aria-pressed", chosen);
    choice.append(press);
  }
  row.append(choice);
  return row;
}

function more(items, count, text) {
  const shown = items.slice(0, count), rest = items.slice(count);
  if (!rest.length) return shown;
  const details = part("details", "");
  details.append(part("summary", "", `${rest.length} ${text}`), ...rest);
  return [...shown, details];
}

function writeFindings() {
  const findings = state.view?.findings ?? [], first = state.view?.first ?? 0, rows = findings.map(findingRow);
  const open = find(".bars details[open]") || findings.slice(first).some(({ set }) => set); // what was set is in sight
  find(".bars").replaceChildren(...(rows.length ? [part("h2", "", "Findings as the model sees them")] : []),
    ...more(rows, first, "more"));
  if (open && find(".bars details")) find(".bars details").open = true;
}

function writeDoubts() {
  const doubts = (state.view?.doubts ?? []).map((text) => part("li", "", text));
  const list = part("ul", "");
  list.append(...more(doubts, 3, "more"));
  find(".doubts").replaceChildren(...(doubts.length ? [part("h2", "", "Warnings"), list] : []));
}

function writeStatus(said) {
  find(".edits").hidden = !state.view?.undo;
  find(".edits span").textContent = state.view?.edits ?? "";
  if (state.view && !said) return; // what was said before still stands
  const { text, tone, details, ask: asks } = said ?? { text: "", details: [] };
  const status = find(".status"), answer = asks ? [button("go-on primary", asks, "", once(() => ask("write", { force: true })))] : [];
  status.className = `status ${tone ?? ""}`;
  status.setAttribute("role", tone === "bad" ? "alert" : "status");
  status.replaceChildren(...(text ? [part("b", "", text)] : []), ...details.map((line) => part("p", "", line)), ...answer);
}

function writeReport() {
  label = state.view?.label ?? "";
  former = ["findings", "impression"].map((section) =>
    sentences().filter((one) => one.section === section).map((one) => one.text).join(" "));
  writeSentences();
  writeFindings();
  writeDoubts();
  writeStatus(state.said);
  state.said = null;
}

find(".undo").addEventListener("click", () => ask("undo", { label }));
