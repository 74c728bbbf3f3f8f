/* The page's charts, the table's order, the filter, copying. */

function chosen(name) {
  return document.querySelector(`input[name="${name}"]:checked`)?.value;
}

/* Draws whenever the place gets another width, and when a choice changes. */
function keepDrawn(host, choice, drawInto) {
  let width = 0;
  const redraw = () => {
    hideTip();
    host.replaceChildren();
    if (width) drawInto(host);
  };
  new ResizeObserver(() => {
    if (host.clientWidth === width) return;
    width = host.clientWidth;
    redraw();
  }).observe(host);
  for (const input of document.querySelectorAll(`input[name="${choice}"]`)) input.addEventListener("change", redraw);
}

function textElement(name, text, className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className });
}

function drawQuality(panel, host, remark) {
  const key = chosen("cost"), cost = data.costs[key];
  const points = panel.points.filter((each) => each.quality && each.costs[key]);
  const absent = panel.points.filter((each) => !points.includes(each));
  const said = absent.map((each) => `${each.name} (${each.trouble || "not measured yet"})`);
  remark.textContent = said.length ? `Not drawn: ${said.join("; ")}` : "";
  if (!points.length) return host.append(textElement("p", "Nothing to draw yet.", "quiet"));
  const values = points.flatMap((each) => each.quality), spread = Math.max(...values) - Math.min(...values);
  const near = panel.baseline !== null && Math.min(...values.map((value) => Math.abs(value - panel.baseline))) <= spread;
  const chart = frame(host, {
    x: { ends: ends(points.flatMap((each) => each.costs[key]), true, 0.18), log: true, title: `${cost.title} (${cost.unit})` },
    y: { ends: ends(near ? [...values, panel.baseline] : values, false, 0.12), title: panel.axis },
    height: 270,
    label: `${panel.title}, ${panel.inputs} inputs: ${panel.axis}, against ${cost.title}; arrow keys go from point to point`,
  });
  if (near) {
    const y = chart.at.y(panel.baseline);
    draw(chart.svg, "line", { class: "baseline", x1: chart.left, x2: chart.right, y1: y, y2: y });
  }
  for (const each of points) {
    point(chart, each.mark, each.costs[key], each.quality, [each.name, each.qualityText, each.costTexts[key], each.trouble].filter(Boolean));
  }
  walkable(chart);
}

for (const panel of data.panels) {
  const article = Object.assign(document.createElement("article"), { className: "panel" });
  Object.assign(article.dataset, { task: panel.task, inputs: panel.inputs });
  const heading = textElement("h3", `${panel.title} `);
  heading.append(textElement("span", `${panel.task}, ${panel.inputs}`, "quiet"));
  const host = textElement("div", "", "chart"), remark = textElement("p", "", "quiet");
  article.append(heading, textElement("p", panel.facts, "quiet"), host, remark);
  document.getElementById("panels").append(article);
  keepDrawn(host, "cost", () => drawQuality(panel, host, remark));
}

const LENGTH_AXES = { time: "forward and backward (ms)", memory: "peak memory (MiB)" };

function drawScaling(what, host) {
  const curves = data.curves
    .filter((curve) => curve.direction === chosen("direction"))
    .map((curve) => ({ ...curve, points: curve.points.filter((each) => each[what]) }));
  const points = curves.flatMap((curve) => curve.points);
  if (!points.length) return host.append(textElement("p", `No ${what} was measured.`, "quiet"));
  const lengths = [...new Set(points.map((each) => each.length))].sort((a, b) => a - b);
  const crossings = what === "time" ? curves.flatMap((curve) => curve.crossings.map((each) => ({ ...each, mark: curve.mark }))) : [];
  crossings.sort((a, b) => a.length - b.length);
  const chart = frame(host, {
    x: { ends: ends(lengths, true, 0.05), log: true, ticks: lengths, names: lengths.map((each) => each.toLocaleString("en")), title: "length (tokens)" },
    y: { ends: ends(points.flatMap((each) => each[what]), true, 0.05), log: true, title: LENGTH_AXES[what] },
    height: 360,
    top: 12 + 16 * crossings.length,
    label: `${LENGTH_AXES[what]} against length; arrow keys go from point to point`,
  });
  crossings.forEach((each, n) => mark(chart, each, 14 + 16 * n));
  for (const curve of curves) {
    const path = curve.points.map((each) => `${chart.at.x(each.length)} ${chart.at.y(each[what][0])}`).join("L");
    if (path) draw(chart.svg, "path", { class: "curve", d: `M${path}`, style: `stroke:var(--mark-${curve.mark})` });
  }
  for (const curve of curves) {
    for (const each of curve.points) {
      const length = each.length.toLocaleString("en");
      point(chart, curve.mark, [each.length], each[what], [curve.name, `${length} tokens`, each[`${what}Text`]]);
    }
  }
  walkable(chart);
}

/* A crossover: its text over the chart, a line down from it to the length, a ring on the curve. */
function mark(chart, crossing, height) {
  const x = chart.at.x(crossing.length), colour = `var(--mark-${crossing.mark})`;
  const isRight = x > (chart.left + chart.right) / 2;
  draw(chart.svg, "text", { class: "crossing-text", x: x + (isRight ? -5 : 5), y: height, "text-anchor": isRight ? "end" : "start", style: `fill:${colour}` }, crossing.text);
  draw(chart.svg, "line", { class: "crossing", x1: x, x2: x, y1: height - 9, y2: chart.bottom, style: `stroke:${colour}` });
  draw(chart.svg, "circle", { class: "ring", cx: x, cy: chart.at.y(crossing.time), r: 9, style: `stroke:${colour}` });
}

for (const host of document.querySelectorAll("[data-scaling]")) {
  keepDrawn(host, "direction", () => drawScaling(host.dataset.scaling, host));
}

/* Rows without a value stand last, whatever the order. */
function compare(column, isNumber, sign) {
  return (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column]?.dataset.value ?? "");
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (isNumber ? Number(a) - Number(b) : a.localeCompare(b));
  };
}

const board = document.getElementById("board"), heads = [...board.tHead.rows[0].cells];
for (const [column, head] of heads.entries()) {
  head.firstElementChild.addEventListener("click", () => {
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
    const by = compare(column, head.dataset.kind === "number", order === "ascending" ? 1 : -1);
    for (const body of board.tBodies) body.append(...[...body.rows].slice(1).sort(by));
    status.textContent = `sorted by ${head.firstElementChild.firstChild.textContent}, ${order}`;
  });
}

const filters = [...document.querySelectorAll("[data-filter]")], status = document.getElementById("shown");
function filter() {
  for (const each of document.querySelectorAll("[data-task]")) {
    each.hidden = filters.some((select) => select.value && each.dataset[select.dataset.filter] !== select.value);
  }
  const rows = board.querySelectorAll("tbody:not([hidden]) tr:not(.group)").length;
  const all = board.querySelectorAll("tbody tr:not(.group)").length;
  status.textContent = `${rows} of ${all} cells shown`;
}
for (const select of filters) select.addEventListener("change", filter);

for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no right to copy: the reader's own keys do it
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

/* A link to a cell opens its details. */
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
}
window.addEventListener("hashchange", open);
if (location.hash) open();

for (const each of document.querySelectorAll(".needs-script")) each.hidden = false;
filter();
