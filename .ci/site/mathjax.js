// Part by part: the ready-made bundles start a worker that speaks, with its dictionaries. Screen readers get MathML here.
window.MathJax = {
  loader: {
    load: ["core", "input/tex", "output/chtml", "a11y/assistive-mml"],
    paths: { fonts: "[mathjax]" },
  },
  options: { processHtmlClass: "math" },
  output: { displayOverflow: "linebreak" },
  startup: {
    ready() {
      delete MathJax.config.options.menuOptions; // set for a menu that is not here
      MathJax.startup.defaultReady();
    },
  },
};
