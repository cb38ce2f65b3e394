
for (const table of document.querySelectorAll("table.sortable"))
  table.tHead.addEventListener("click", (event) => {
    const th = event.target.closest("th");
    if (!th) return;
    const up = th.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[th.cellIndex].dataset.value;
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].sort((one, two) => {
      const [a, b] = [key(one), key(two)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  });

// On a narrow screen the contents list is a bar that opens, and closes at a choice.
const contents = document.querySelector("nav > details");
const narrow = matchMedia("(max-width: 68rem)");
const fold = () => { contents.open = !narrow.matches; };
document.body.classList.add("scripted");
narrow.addEventListener("change", fold);
fold();
contents.addEventListener("click", (event) => {
  if (event.target.closest("a")) fold();
});

// The contents list says where the reader is.
const links = new Map([...contents.querySelectorAll("a")].reverse()
  .map((link) => [link.hash.slice(1), link]));
const sections = [...document.querySelectorAll("section")];
const mark = () => {
  const above = sections.filter((one) => one.getBoundingClientRect().top < 160);
  const here = above.at(-1) || sections[0];
  for (const [id, link] of links)
    if (id === here.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
};
addEventListener("scroll", mark, { passive: true });
mark();

// Paper shows everything, and the screen what it showed before.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});
