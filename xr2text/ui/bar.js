// The bar: which part of the page is in front, and the studies that were read. The other parts say so by events.
const main = document.querySelector(".gradio-container"), tabs = [...element.querySelectorAll("[role=tab]")];
const history = element.querySelector(".history");

function show(view) {
  main.dataset.view = view;
  for (const tab of tabs) tab.setAttribute("aria-selected", tab.dataset.view === view);
}

for (const tab of tabs) {
  tab.addEventListener("click", () => document.dispatchEvent(new CustomEvent("xr2text:show", { detail: tab.dataset.view })));
}
document.addEventListener("xr2text:show", ({ detail }) => show(detail));
document.addEventListener("xr2text:history", ({ detail }) => {
  history.replaceChildren(new Option(detail.history.length ? "choose" : "none yet", ""), ...detail.history.map((name) => new Option(name)));
  history.value = detail.history.includes(detail.label) ? detail.label : "";
});
history.addEventListener("change", () => {
  if (!history.value) return;
  show("read");
  document.dispatchEvent(new CustomEvent("xr2text:opening", { detail: history.value }));
  trigger("reopened", { label: history.value });
});
show("read");
