/* Charts in SVG: axes, points with their spread, and one tooltip for hovering, focus and tapping. */

const SVG = "http://www.w3.org/2000/svg";
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
let shown = null;

function draw(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

/* The ticks' texts: as many digits as tell them apart. */
function names(ticks, isLog) {
  const digits = ticks.map((tick) => String(tick).split(".")[1]?.length ?? 0), most = Math.max(...digits);
  return ticks.map((tick, n) => tick.toLocaleString("en", { minimumFractionDigits: isLog ? digits[n] : most, maximumFractionDigits: most }));
}

/* Round values between two ends, about as many as asked for. */
function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-9); n++) ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

/* Powers of ten and, where there is room, twice and five times them; over a narrow range, evenly spaced values. */
function logTicks(low, high, count) {
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const factor of factors) {
        const tick = Number((factor * 10 ** power).toPrecision(6));
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    }
    if (ticks.length < 2) return linearTicks(low, high, count);
    if (ticks.length <= count + 1) return ticks;
    if (factors.length === 1) return ticks.filter((_, n) => n % Math.ceil(ticks.length / count) === 0);
  }
}

/* The ends of an axis: the values and some room around them. */
function ends(values, isLog, room) {
  let low = Math.min(...values), high = Math.max(...values);
  if (isLog) {
    const factor = Math.max(high / low, 1.5) ** room;
    return [low / factor, high * factor];
  }
  const span = high - low || Math.abs(high) * 0.1 || 1;
  return [low - room * span, high + room * span];
}

function scale(axis, from, to) {
  const [low, high] = axis.ends, bend = axis.log ? Math.log : (value) => value;
  return (value) => from + ((to - from) * (bend(value) - bend(low))) / (bend(high) - bend(low));
}

/* An empty chart with its axes; gives the drawing and the two scales. */
function frame(host, { x, y, height, top = 10, label }) {
  const width = host.clientWidth;
  const ticks = { x: x.ticks ?? logTicks(...x.ends, width / 75), y: (y.log ? logTicks : linearTicks)(...y.ends, 5) };
  const named = { x: x.names ?? names(ticks.x, x.log), y: names(ticks.y, y.log) };
  const left = 28 + 7 * Math.max(...named.y.map((name) => name.length)), right = width - 14, bottom = height - 42;
  const svg = draw(host, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": label });
  const at = { x: scale(x, left, right), y: scale(y, bottom, top) };
  for (const [n, tick] of ticks.y.entries()) {
    draw(svg, "line", { class: "grid", x1: left, x2: right, y1: at.y(tick), y2: at.y(tick) });
    draw(svg, "text", { x: left - 6, y: at.y(tick) + 4, "text-anchor": "end" }, named.y[n]);
  }
  let free = -Infinity;
  for (const [n, tick] of ticks.x.entries()) {
    draw(svg, "line", { class: "grid", x1: at.x(tick), x2: at.x(tick), y1: top, y2: bottom });
    const room = 4 * named.x[n].length + 4;
    if (at.x(tick) - room < free) continue;
    free = at.x(tick) + room;
    draw(svg, "text", { x: at.x(tick), y: bottom + 16, "text-anchor": "middle" }, named.x[n]);
  }
  draw(svg, "line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
  draw(svg, "text", { class: "axis-title", x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, x.title);
  const middle = (top + bottom) / 2;
  draw(svg, "text", { class: "axis-title", transform: `translate(11 ${middle}) rotate(-90)`, "text-anchor": "middle" }, y.title);
  return { svg, at, left, right, top, bottom };
}

/* A mechanism's mark with its bars. `lines` are the tooltip's: the first is its title. */
function point(chart, mark, [x, lowX, highX], [y, lowY, highY], lines) {
  const { svg, at } = chart, colour = `var(--mark-${mark})`;
  const [px, py] = [at.x(x), at.y(y)];
  const clampY = (value) => Math.min(Math.max(at.y(value), chart.top), chart.bottom);
  const bar = (path) => draw(svg, "path", { class: "whisker", d: path, style: `stroke:${colour}` });
  if (lowY < highY) {
    const [down, up] = [clampY(lowY), clampY(highY)];
    bar(`M${px} ${down}V${up}M${px - 4} ${down}h8M${px - 4} ${up}h8`);
  }
  if (lowX < highX) bar(`M${at.x(lowX)} ${py}H${at.x(highX)}M${at.x(lowX)} ${py - 4}v8M${at.x(highX)} ${py - 4}v8`);
  const made = draw(svg, "g", { class: "point", transform: `translate(${px} ${py})`, role: "img", tabindex: -1, "aria-label": lines.join(". ") });
  draw(made, "path", { class: "shape", d: data.marks[mark], style: `fill:${colour}` });
  draw(made, "circle", { class: "hit", r: 12 });
  made.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && showTip(made, lines));
  made.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && document.activeElement !== made && hideTip());
  made.addEventListener("focus", () => showTip(made, lines));
  made.addEventListener("blur", hideTip);
  made.addEventListener("click", () => showTip(made, lines));
  return made;
}

/* One stop of the tab key a chart; the arrow keys go from point to point, from left to right. */
function walkable(chart) {
  const left = (each) => each.transform.baseVal[0].matrix.e;
  const points = [...chart.svg.querySelectorAll(".point")].sort((a, b) => left(a) - left(b));
  points[0]?.setAttribute("tabindex", 0);
  chart.svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const here = points.indexOf(document.activeElement);
    if (!step || here < 0) return;
    event.preventDefault();
    const next = points[(here + step + points.length) % points.length];
    points[here].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

function showTip(made, lines) {
  hideTip();
  shown = made;
  made.classList.add("shown");
  tip.replaceChildren(...lines.map((line, n) => Object.assign(document.createElement(n ? "span" : "strong"), { textContent: line })));
  tip.hidden = false;
  const mark = made.querySelector(".hit").getBoundingClientRect(), box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(mark.left + mark.width / 2 - box.width / 2, 8), document.documentElement.clientWidth - box.width - 8);
  const above = mark.top - box.height - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : mark.bottom + 6}px`;
}

function hideTip() {
  shown?.classList.remove("shown");
  shown = null;
  tip.hidden = true;
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
document.addEventListener("pointerdown", (event) => event.target.closest(".point") !== shown && hideTip());
window.addEventListener("scroll", () => shown && hideTip(), { passive: true });
