// The batch as a worklist. `props.value` is what `worklist.worklist_view` gave.
const find = (selector) => element.querySelector(selector), picker = find(".files"), sort = find(".sort");
let order = []; // labels of the studies as they stood when one was opened from the list: the arrows go through them

function part(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

const sorted = () => [...(props.value?.rows ?? [])].sort((a, b) => sort.value === "need" && b.need - a.need
  || a.name.localeCompare(b.name, undefined, { numeric: true }));
const ready = () => sorted().filter(({ state }) => state === "report");

// Labels in the order in which the arrows go through them: new ones come last.
function steps() {
  const labels = ready().map(({ label }) => label);
  order = [...order.filter((label) => labels.includes(label)), ...labels.filter((label) => !order.includes(label))];
  return order;
}

async function send(files) {
  if (!files.length) return;
  find(".status").textContent = `Sending ${files.length} files …`;
  try {
    const sent = await Promise.all([...files].map(upload));
    trigger("many", { paths: sent.map(({ path }) => path) });
  } catch {
    find(".status").textContent = "The files could not be sent: one may be too large, or the connection is gone.";
  }
}

function show({ label }) {
  document.dispatchEvent(new CustomEvent("xr2text:opening", { detail: label }));
  document.dispatchEvent(new CustomEvent("xr2text:show", { detail: "read" }));
  trigger("row", { label });
}

function rowItem(row) {
  const item = part("li", row.state);
  item.dataset.number = row.number;
  const press = part("button", "open");
  Object.assign(press, { type: "button", disabled: row.state !== "report" });
  const image = part("img", "");
  Object.assign(image, { src: row.image || "data:,", alt: "", hidden: !row.image });
  const text = part("span", "text"), marks = part("span", "marks");
  text.append(part("b", "", row.name), part("span", "", row.text));
  for (const seen of row.seen) marks.append(part("span", "seen", seen));
  if (row.more) marks.append(part("span", "", `+${row.more}`));
  if (row.warnings) marks.append(part("span", "warnings", `${row.warnings} warning${row.warnings > 1 ? "s" : ""}`));
  if (row.edited) marks.append(part("span", "edited", "yours"));
  press.setAttribute("aria-label", `Open ${row.name}: ${row.text}`);
  press.append(image, text, marks);
  press.addEventListener("click", () => {
    order = ready().map(({ label }) => label);
    show(row);
  });
  item.append(press);
  return item;
}

function refresh() {
  const { status, rows = [] } = props.value ?? {}, read = rows.filter(({ state }) => state !== "waiting").length;
  if (status) {
    find(".status").textContent = status.text;
    find(".status").className = `status ${status.tone}`;
    find(".status").setAttribute("role", status.tone === "bad" ? "alert" : "status");
  }
  find("progress").hidden = !rows.length || read === rows.length;
  find("progress").value = rows.length ? read / rows.length : 0;
  const at = document.activeElement.closest("#rows li")?.dataset.number;
  find(".rows").replaceChildren(...sorted().map(rowItem));
  if (at) find(`#rows li[data-number="${at}"] button`)?.focus({ preventScroll: true });
  for (const name of ["zip", "csv"]) find(`.${name}`).disabled = read < rows.length || !rows.some(({ state }) => state === "report");
}

find(".choose").addEventListener("click", () => picker.click());
picker.addEventListener("change", () => {
  const files = [...picker.files];
  picker.value = ""; // so that the same file can be chosen again
  send(files);
});
const drop = find(".drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  send([...event.dataTransfer.files]);
});
sort.addEventListener("change", refresh);
find(".zip").addEventListener("click", () => trigger("save", { name: "zip" }));
find(".csv").addEventListener("click", () => trigger("save", { name: "csv" }));
find(".rows").addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key], items = [...element.querySelectorAll(".rows button:enabled")];
  if (!by) return;
  event.preventDefault();
  items[Math.min(items.length - 1, Math.max(0, items.indexOf(document.activeElement) + by))]?.focus();
});
// The reading room: files that were dropped there, and the next study.
document.addEventListener("xr2text:batch", ({ detail }) => {
  document.dispatchEvent(new CustomEvent("xr2text:show", { detail: "batch" }));
  trigger("many", { paths: detail });
});
document.addEventListener("xr2text:step", ({ detail: { label, by } }) => {
  const at = steps().indexOf(label), next = ready().find((row) => row.label === order[at + by]);
  if (next) show(next);
});
document.addEventListener("xr2text:place", ({ detail: { label, tell } }) => {
  const at = steps().indexOf(label);
  if (at >= 0) tell(`Film ${at + 1} of ${order.length}`);
});
watch("value", refresh);
refresh();
