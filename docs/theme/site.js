// What the theme leaves out for those who use a keyboard or a screen reader: a name for the search, and scrolling.
window.addEventListener("load", () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  const scrolling = ".md-typeset__scrollwrap, .md-typeset pre > code";
  for (const region of document.querySelectorAll(scrolling)) region.tabIndex = 0;
});
