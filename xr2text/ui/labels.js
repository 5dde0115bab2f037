() => {
  // gradio's label holds the copy button before the text, and so is the button's label: the text has no name.
  for (const name of ["findings", "impression"]) {
    const box = document.querySelector(`#${name}`), text = box.querySelector("textarea");
    text.id = `${name}-text`;
    text.setAttribute("aria-label", box.querySelector("label > span").textContent.trim());
    box.querySelector("label").htmlFor = text.id;
  }
  return [];
}
