const EDGE = { left: 46, right: 14, top: 14, bars: 34, bottom: 20 };

/** Round steps for an axis. */
function ticks(top, count) {
  const raw = top / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max([1, 2, 5, 10].find((m) => m * power >= raw) * power, 1);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
}

function extent(cards) {
  let x = 1, y = 1;
  for (const { completion: c } of cards) {
    x = Math.max(x, c.ids.length);
    for (const n of c.predicted) y = Math.max(y, n);
    if (c.remaining) y = Math.max(y, c.remaining[0]);
  }
  return { x, y: y * 1.04 };
}

function makeCurve(card) {
  const svg = add(card.element, "svg", { class: "curve", role: "img" });
  card.svg = svg;
  card.parts = {};
  for (const name of ["grid", "longer", "shorter", "true", "predicted", "cursor"]) {
    card.parts[name] = add(svg, "path", { class: name });
  }
  card.parts.labels = add(svg, "g");
  card.parts.actual = add(svg, "circle", { class: "dot actual", r: 4, visibility: "hidden" });
  card.parts.dot = add(svg, "circle", { class: "dot", r: 4.5, visibility: "hidden" });
  svg.addEventListener("pointermove", (event) => hover(card, tokenAtX(card, event), true));
  svg.addEventListener("pointerleave", () => unhover());
  svg.addEventListener("click", (event) => {
    pin(card, tokenAtX(card, event));
    card.text.focus({ preventScroll: true });
  });
}

function tokenAtX(card, event) {
  const state = Math.round(card.axes.state(event.clientX - card.svg.getBoundingClientRect().left));
  return card.pieceOf[Math.min(Math.max(state - 1, 0), card.pieceOf.length - 1)];
}

function path(values, x, y) {
  return values.map((v, t) => `${t ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("");
}

function drawCurve(card, limits) {
  const { completion: c, svg, parts } = card;
  const width = svg.clientWidth, height = svg.clientHeight;
  if (!width) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const floor = height - EDGE.bottom - EDGE.bars, inner = width - EDGE.left - EDGE.right;
  const x = (t) => EDGE.left + inner * t / limits.x;
  const y = (n) => floor - (floor - EDGE.top) * n / limits.y;
  card.axes = { x, y, state: (px) => (px - EDGE.left) / inner * limits.x, bottom: height - EDGE.bottom };
  parts.predicted.setAttribute("d", path(c.predicted, x, y));
  parts.true.setAttribute("d", c.remaining ? path(c.remaining, x, y) : "");
  const middle = height - EDGE.bottom - EDGE.bars / 2 + 2, full = view.scale / view.strength;
  const bars = { longer: "", shorter: "" };
  c.shift.forEach((s, i) => {
    const size = Math.min(Math.abs(s) / full, 1) * (EDGE.bars / 2 - 3);
    bars[s > 0 ? "longer" : "shorter"] += `M${x(i + 0.5).toFixed(1)} ${middle}v${(s > 0 ? -size : size).toFixed(1)}`;
  });
  const thick = Math.min(Math.max(0.8 * inner / limits.x, 0.6), 7);
  for (const name of ["longer", "shorter"]) {
    parts[name].setAttribute("d", bars[name]);
    parts[name].setAttribute("stroke-width", thick);
  }
  drawAxes(card, limits, width, floor, middle);
  drawCursor(card);
}

function drawAxes(card, limits, width, floor, middle) {
  const { parts, axes } = card;
  const rows = ticks(limits.y, 3), columns = ticks(limits.x, Math.max(width / 110, 2));
  parts.grid.setAttribute("d", [...rows.map((n) => `M${EDGE.left} ${axes.y(n).toFixed(1)}H${width - EDGE.right}`),
    `M${EDGE.left} ${middle}H${width - EDGE.right}`].join(""));
  parts.labels.replaceChildren();
  for (const n of rows) {
    add(parts.labels, "text", { x: EDGE.left - 7, y: axes.y(n) + 4, "text-anchor": "end" }, n.toLocaleString("en"));
  }
  for (const t of columns) {
    add(parts.labels, "text", { x: axes.x(t), y: axes.bottom + 14, "text-anchor": "middle" }, t.toLocaleString("en"));
  }
  add(parts.labels, "text", { x: EDGE.left - 7, y: middle + 4, "text-anchor": "end" }, "shift");
}

function drawCursor(card) {
  const { parts, axes, completion: c } = card, here = shownCursor();
  const on = axes && here && here.card === card && card.pieces.length > 0;
  for (const name of ["dot", "actual"]) parts[name].setAttribute("visibility", "hidden");
  parts.cursor.setAttribute("d", "");
  if (!on) return;
  const state = card.starts[here.piece] + card.pieces[here.piece][1], x = axes.x(state);
  parts.cursor.setAttribute("d", `M${x.toFixed(1)} ${EDGE.top - 6}V${axes.bottom}`);
  for (const [name, values] of [["dot", c.predicted], ["actual", c.remaining]]) {
    if (!values || values[state] === undefined) continue;
    parts[name].setAttribute("visibility", "visible");
    parts[name].setAttribute("cx", x);
    parts[name].setAttribute("cy", axes.y(values[state]));
  }
}

let frame = 0;
function redraw() {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    const shared = extent(view.cards);
    for (const card of view.cards) drawCurve(card, view.sameAxes ? shared : extent([card]));
  });
}
