// Draws the rows of a batch, [film, result, impression, whether it opens] each; a row that is chosen is told to the page.
function cell(kind, content) {
  const one = document.createElement(kind);
  one.append(content);
  return one;
}

function show() {
  element.querySelector("tbody").replaceChildren(...(props.value || []).map(([film, result, impression, opens], row) => {
    const line = document.createElement("tr"), name = opens ? cell("button", film) : document.createTextNode(film);
    line.className = opens ? "film opens" : "film";
    if (opens) {
      name.type = "button";
      name.setAttribute("aria-label", `Open ${film}`);
      line.addEventListener("click", () => trigger("select", { row }));
    }
    line.append(cell("th", name), cell("td", result), cell("td", impression));
    line.firstChild.scope = "row";
    return line;
  }));
}
watch("value", show);
show();
