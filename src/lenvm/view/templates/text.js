function makeCard(completion, number, total) {
  const element = add(byId("cards"), "article", { class: "card" });
  const header = add(element, "header");
  add(header, "h2", {}, total > 1 ? `Completion ${number + 1}` : "Completion");
  const card = { element, number, total, completion, pieces: [], starts: [], spans: [], pieceOf: [], facts: add(header, "p") };
  card.text = add(element, "div", {
    class: "text", tabindex: 0, role: "application", "aria-roledescription": "token reader",
    "aria-describedby": "p-predicted p-shift",
  });
  makeCurve(card);
  appendPieces(card, completion.pieces);
  describe(card);
  const at = (event) => event.target.closest("[data-i]")?.dataset.i;
  card.text.addEventListener("pointerover", (e) => at(e) && hover(card, Number(at(e))));
  card.text.addEventListener("pointerleave", () => unhover());
  card.text.addEventListener("click", (e) => at(e) && pin(card, Number(at(e))));
  card.text.addEventListener("focus", () => {
    if (view.pinned?.card !== card && card.text.matches(":focus-visible")) pin(card, card.last ?? 0, true);
  });
  card.text.addEventListener("keydown", (event) => onKey(card, event));
  return card;
}

function appendPieces(card, pieces) {
  const batch = document.createDocumentFragment(), c = card.completion;
  let first = card.starts.length ? card.starts.at(-1) + card.pieces.at(-1)[1] : 0;
  for (const piece of pieces) {
    const [text, count, special] = piece, shift = shiftOf(c, first, count);
    const kind = [shift === null ? "u" : shift > 0 ? "l" : "s", special && "x"];
    const span = add(batch, "span", { class: kind.filter(Boolean).join(" "), "data-i": card.pieces.length });
    const shown = visible(text), line = shown.indexOf("\n");
    span.append(line < 0 ? shown : shown.slice(0, line));
    if (line >= 0) {
      add(span, "i"); // its sign is drawn by the style: a copy of the text stays as it was written
      span.append(shown.slice(line));
    }
    if (shift !== null) span.style.setProperty("--s", Math.abs(shift).toFixed(5));
    card.pieces.push(piece);
    card.starts.push(first);
    card.spans.push(span);
    for (let i = 0; i < count; i++) card.pieceOf.push(card.pieces.length - 1);
    first += count;
  }
  card.text.append(batch);
}

function describe(card) {
  const c = card.completion, n = c.ids.length, start = c.predicted[0];
  const ending = c.growing ? "being written" : c.finished ? "ended by itself" : "cut by a limit";
  const parts = [`${n.toLocaleString("en")} tokens, ${ending}`];
  if (start !== undefined) parts.push(`first guess ${brief(start)}`);
  if (c.predicted.length < n + 1 && !c.growing) parts.push(`the value model reads ${c.predicted.length - 1} of them`);
  card.facts.textContent = parts.join(" \u00b7 ");
  const name = card.total > 1 ? `Completion ${card.number + 1} of ${card.total}` : "Completion";
  card.text.setAttribute("aria-label", `${name}, ${card.facts.textContent}. Arrow keys move between tokens.`);
  card.svg.setAttribute("aria-label", `${name}: predicted${c.remaining ? " and true" : ""} number of tokens to come.`);
}

const shownCursor = () => view.hovered ?? view.pinned;

function hover(card, piece, fromCurve = false) {
  if (piece === undefined) return;
  view.hovered = { card, piece };
  if (fromCurve) reveal(card, piece);
  show();
}

function unhover() {
  view.hovered = null;
  show();
}

function pin(card, piece, aloud = false) {
  if (piece === undefined || !card.pieces.length) return;
  view.pinned = { card, piece: Math.min(piece, card.pieces.length - 1) };
  view.hovered = null;
  card.last = view.pinned.piece;
  reveal(card, view.pinned.piece);
  show();
  if (aloud) byId("spoken").textContent = spoken(card, view.pinned.piece);
}

/** Scrolls the text, and not the page under the reader's pointer. */
function reveal(card, piece) {
  const box = card.text, span = card.spans[piece], top = span.offsetTop, bottom = top + span.offsetHeight;
  if (top < box.scrollTop + 8) box.scrollTop = top - 8;
  else if (bottom > box.scrollTop + box.clientHeight - 8) box.scrollTop = bottom - box.clientHeight + 8;
}

/** The nearest token in the line above or below. */
function vertical(card, piece, direction) {
  const place = (i) => card.spans[i].getClientRects()[0] ?? card.spans[i].getBoundingClientRect();
  const from = place(piece), centre = from.left + from.width / 2;
  let best = piece, line = null, distance = Infinity;
  for (let i = piece + direction; i >= 0 && i < card.spans.length; i += direction) {
    const at = place(i);
    if (Math.abs(at.top - from.top) < from.height * 0.6) continue;
    line ??= at.top;
    if (Math.abs(at.top - line) > from.height * 0.6) break;
    const off = Math.abs(at.left + at.width / 2 - centre);
    if (off < distance) [best, distance] = [i, off];
  }
  return best;
}

function onKey(card, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !card.pieces.length) return;
  const here = view.pinned?.card === card ? view.pinned.piece : -1, end = card.pieces.length - 1;
  const at = Math.max(here, 0);
  const moves = {
    ArrowRight: () => Math.min(here + 1, end), ArrowLeft: () => Math.max(here - 1, 0),
    ArrowDown: () => vertical(card, at, 1), ArrowUp: () => vertical(card, at, -1),
    Home: () => 0, End: () => end, PageDown: () => Math.min(at + 25, end), PageUp: () => Math.max(at - 25, 0),
  };
  if (event.key === "Escape") {
    view.pinned = view.hovered = null;
    show();
  } else if (moves[event.key]) {
    event.preventDefault();
    pin(card, moves[event.key](), true);
  }
}
