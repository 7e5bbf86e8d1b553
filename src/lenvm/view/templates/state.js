const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
let data = JSON.parse(byId("data").textContent);
/** What is on the screen: the completions of one prompt, and the token that the cursor is on. */
const view = { prompt: 0, cards: [], pinned: null, hovered: null, sameAxes: true, scale: 0.1, strength: 1 };

function add(parent, name, attributes = {}, text) {
  const node = parent instanceof SVGElement || name === "svg" ? document.createElementNS(SVG, name)
    : document.createElement(name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  return parent.appendChild(node);
}

/** Control characters have no look of their own; line breaks and tabs do what they say. */
function visible(text) {
  return text.replace(/[\0-\x08\x0b-\x1f\x7f]/g, (c) => c === "\x7f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0)));
}

function signed(number, digits = 3) {
  return (number < 0 ? "\u2212" : "+") + Math.abs(number).toFixed(digits);
}

function brief(number) {
  return number < 99.95 ? number.toFixed(1) : Math.round(number).toLocaleString("en");
}

/** The shift of a stretch of tokens: what one of them would have if it did all of it in one step. */
function shiftOf(completion, first, count) {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    if (completion.shift[first + i] === undefined) return null;
    sum += data.gamma ** i * completion.shift[first + i];
  }
  return sum;
}

/** Colours are deepest where all but the largest shifts lie, whatever model the numbers are from. */
function rescale() {
  const sizes = data.prompts.flatMap((p) => p.completions.flatMap((c) => c.shift.map(Math.abs))).sort((a, b) => a - b);
  view.scale = Math.max(sizes.length ? sizes[Math.floor(0.97 * (sizes.length - 1))] : 0.1, 0.001);
  applyScale();
}

function applyScale() {
  const full = view.scale / view.strength;
  document.documentElement.style.setProperty("--rate", (72 / full).toPrecision(5));
  const shown = full < 0.1 ? full.toFixed(3) : full.toFixed(2);
  byId("low").textContent = "\u2212" + shown;
  byId("high").textContent = "+" + shown;
}
