/** Completions that are written while the page is open. */
function listen(samples) {
  const source = new EventSource("/events"), state = byId("state");
  let rescaled = 0;
  state.textContent = "waiting for the first token";
  source.addEventListener("begin", (event) => {
    const { predicted, horizon } = JSON.parse(event.data);
    data.prompts[0].completions = Array.from({ length: samples }, () => ({
      ids: [], pieces: [], finished: false, growing: true, predicted: [predicted], horizon: [horizon], remaining: null,
      shift: [],
    }));
    showPrompt(0);
    for (const card of view.cards) card.text.classList.add("growing");
    state.textContent = "writing";
  });
  source.addEventListener("tokens", (event) => {
    for (const news of JSON.parse(event.data)) {
      const card = view.cards[news.row], c = card.completion, box = card.text;
      const atEnd = box.scrollTop + box.clientHeight > box.scrollHeight - 30;
      c.ids.push(news.id);
      c.predicted.push(news.predicted);
      c.horizon.push(news.horizon);
      c.shift.push(news.shift);
      appendPieces(card, news.pieces);
      if (atEnd) box.scrollTop = box.scrollHeight;
      describe(card);
    }
    if (performance.now() - rescaled > 400) {
      rescale();
      rescaled = performance.now();
    }
    if (shownCursor()) show();
    redraw();
  });
  source.addEventListener("end", (event) => {
    const { row, finished, pieces } = JSON.parse(event.data), card = view.cards[row], c = card.completion;
    appendPieces(card, pieces);
    Object.assign(c, { finished, growing: false });
    if (finished) c.remaining = c.predicted.map((_, t) => c.ids.length - t);
    card.text.classList.remove("growing");
    describe(card);
    redraw();
  });
  source.addEventListener("done", (event) => {
    source.close();
    const kept = view.pinned && [view.pinned.card.number, view.pinned.piece];
    const tops = view.cards.map((card) => card.text.scrollTop);
    const focused = view.cards.findIndex((card) => card.text === document.activeElement);
    data = JSON.parse(event.data);
    rescale();
    showPrompt(0);
    view.cards.forEach((card, i) => { card.text.scrollTop = tops[i] ?? 0; });
    if (kept) pin(view.cards[kept[0]], kept[1]);
    if (focused >= 0) view.cards[focused].text.focus({ preventScroll: true });
    state.textContent = "complete";
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) state.textContent = "connection lost";
  });
}

rescale();
showPrompt(0);
if (data.live) listen(data.live.samples);
