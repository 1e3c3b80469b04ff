"use strict";
const cells = document.querySelectorAll("details.cell");
const openTarget = () => {
  const id = window.location.hash.slice(1);
  const target = id ? document.getElementById(id) : null;
  if (target instanceof HTMLDetailsElement) target.open = true;
};
document.getElementById("open-all").addEventListener("click", () => {
  const open = [...cells].some((cell) => !cell.open);
  cells.forEach((cell) => { cell.open = open; });
});
window.addEventListener("hashchange", openTarget);
openTarget();
