let marked = null;

/** Brings marks, curves and panel to where the cursor is. */
function show() {
  const here = shownCursor();
  marked?.classList.remove("here");
  marked = here ? here.card.spans[here.piece] : null;
  marked?.classList.add("here");
  for (const card of view.cards) drawCursor(card);
  for (const [id, [value, more]] of Object.entries(here ? facts(here.card, here.piece) : nothing)) {
    const field = byId(id);
    field.textContent = value;
    if (more) add(field, "small", {}, " " + more);
  }
  const shift = here && shiftOf(here.card.completion, here.card.starts[here.piece], here.card.pieces[here.piece][1]);
  byId("p-shift").className = shift ? (shift > 0 ? "longer" : "shorter") : "";
}

const nothing = Object.fromEntries(
  ["p-token", "p-id", "p-position", "p-predicted", "p-true", "p-horizon", "p-shift"].map((id) => [id, ["\u2013"]]));

function facts(card, piece) {
  const c = card.completion, first = card.starts[piece], [text, count, special] = card.pieces[piece];
  const after = first + count, n = c.predicted[after], left = c.remaining?.[after], shift = shiftOf(c, first, count);
  const written = visible(text).replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5").replace(/^ | $/g, "\u00b7");
  const where = count > 1 ? `${first + 1}\u2013${after}` : `${after}`;
  return {
    "p-token": [written, count > 1 ? `${count} tokens` : special ? "control token" : ""],
    "p-id": [c.ids.slice(first, after).join(" ")],
    "p-position": [where, `of ${c.ids.length}${c.growing ? " so far" : ""}`],
    "p-predicted": n === undefined ? ["\u2013"] : [brief(n), `${brief(c.predicted[first])} before`],
    "p-true": left === undefined ? ["\u2013", c.growing ? "not known yet" : "unknown: it was cut"] : [left.toLocaleString("en")],
    "p-horizon": n === undefined ? ["\u2013"]
      : [c.horizon[after].toFixed(3), left === undefined ? "" : `true ${(1 - data.gamma ** left).toFixed(3)}`],
    "p-shift": shift === null ? ["\u2013"] : [signed(shift, 4), shift > 0 ? "longer" : "shorter"],
  };
}

function spoken(card, piece) {
  const f = facts(card, piece);
  return `${f["p-token"][0]}, token ${f["p-position"].join(" ")}, ${f["p-predicted"][0]} to come, ` +
    `shift ${f["p-shift"].join(" ")}`;
}

function showPrompt(number) {
  view.prompt = Math.min(Math.max(number, 0), data.prompts.length - 1);
  const prompt = data.prompts[view.prompt];
  byId("prompt").textContent = visible(prompt.text);
  byId("domain").hidden = !prompt.domain;
  byId("domain").textContent = prompt.domain ?? "";
  byId("prompts").value = view.prompt;
  byId("previous").disabled = view.prompt === 0;
  byId("next").disabled = view.prompt === data.prompts.length - 1;
  view.pinned = view.hovered = marked = null;
  byId("cards").replaceChildren();
  view.cards = [];
  prompt.completions.forEach((c, i) => view.cards.push(makeCard(c, i, prompt.completions.length)));
  show();
  redraw();
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Change to the ${theme === "dark" ? "light" : "dark"} theme`);
}

/** A page from a file may not be allowed to remember anything. */
function remembered(theme) {
  try {
    if (theme) localStorage.setItem("lenvm-theme", theme);
    return localStorage.getItem("lenvm-theme");
  } catch {
    return null;
  }
}

const system = matchMedia("(prefers-color-scheme: dark)");
showTheme(remembered() ?? (system.matches ? "dark" : "light"));
system.addEventListener("change", () => remembered() ?? showTheme(system.matches ? "dark" : "light"));
byId("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  showTheme(theme);
  remembered(theme);
});
byId("axes").addEventListener("click", () => {
  view.sameAxes = !view.sameAxes;
  byId("axes").setAttribute("aria-pressed", view.sameAxes);
  redraw();
});
byId("strength").addEventListener("input", (event) => {
  view.strength = 2 ** Number(event.target.value);
  applyScale();
  redraw();
});
data.prompts.forEach((p, i) => {
  const line = p.text.replace(/\s+/g, " ").trim();
  add(byId("prompts"), "option", { value: i }, `${i + 1}. ${line.length > 90 ? line.slice(0, 89) + "\u2026" : line}`);
});
byId("picker").hidden = data.prompts.length < 2;
byId("prompts").addEventListener("change", (event) => showPrompt(Number(event.target.value)));
byId("previous").addEventListener("click", () => showPrompt(view.prompt - 1));
byId("next").addEventListener("click", () => showPrompt(view.prompt + 1));
new ResizeObserver(redraw).observe(byId("cards"));
