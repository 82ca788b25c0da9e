// Draws the page's charts. Their colours are CSS variables, which differ in light and dark.
(() => {
  if (!window.Plotly) return;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const resolve = (value, styles) => {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? styles.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, styles));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, styles)]));
  };
  const draw = () => {
    const styles = getComputedStyle(document.documentElement);
    for (const chart of document.querySelectorAll(".chart")) {
      const target = chart.querySelector("div");
      const figure = resolve(JSON.parse(chart.querySelector("script").textContent), styles);
      target.querySelector(".absent")?.remove();
      Plotly.react(target, figure.data, figure.layout, { displayModeBar: false, responsive: true });
    }
  };
  dark.addEventListener("change", draw);
  draw();
})();
