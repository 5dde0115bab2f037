// A click on a row of the batch opens its radiograph.
element.addEventListener("click", (event) => {
  const row = event.target.closest("tr.opens");
  if (row) trigger("select", { row: Number(row.dataset.row) });
});
