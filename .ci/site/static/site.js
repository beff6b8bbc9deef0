// What scrolls sideways (long code, wide tables, wide formulas) can be reached and scrolled by keyboard, too.
const SCROLLING = ".highlight pre, .table-wrapper, .cell_output, .math-wrapper";

function letScrollByKeyboard() {
  for (const box of document.querySelectorAll(SCROLLING)) {
    const scrolls = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible";
    if (scrolls) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

addEventListener("load", letScrollByKeyboard);
addEventListener("resize", letScrollByKeyboard);

// two landmarks of one kind need names to be told apart
document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
