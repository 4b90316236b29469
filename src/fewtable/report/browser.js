"use strict";
(() => {
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("sentences");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const STEP = 25;
  let matching = [];

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const option = (value, text) => {
    const made = element("option", "", text);
    made.value = value;
    return made;
  };
  const current = () => data.cells[Number(form.elements.cell.value)];
  const wordsOf = (cell, id) => data.sentences[cell.dataset][id];
  const ofType = (mark, type) =>
    !type || (mark[1] && mark[1][2] === type) || (mark[2] && mark[2][2] === type);

  function kindsOf([, marks, dropped], type) {
    const kinds = new Set(marks.filter((mark) => ofType(mark, type)).map((mark) => mark[0]));
    if (dropped.length && !type) kinds.add("dropped");
    if (!marks.length && !dropped.length && !type) kinds.add("nothing");
    return kinds;
  }

  function fillCells() {
    const groups = new Map();
    data.cells.forEach((cell, index) => {
      if (!groups.has(cell.column)) {
        const group = element("optgroup");
        group.label = cell.column;
        groups.set(cell.column, group);
        form.elements.cell.append(group);
      }
      groups.get(cell.column).append(option(index, cell.title));
    });
  }

  function fillCell() {
    const { draw, type } = form.elements;
    const [oldDraw, oldType] = [draw.value, type.value];
    const cell = current();
    draw.replaceChildren(...Object.keys(cell.draws).map((key) => option(key, key)));
    type.replaceChildren(option("", "all"), ...cell.types.map((name) => option(name, name)));
    if (oldDraw in cell.draws) draw.value = oldDraw;
    if (cell.types.includes(oldType)) type.value = oldType;
  }

  function update() {
    const cell = current();
    const rows = cell.draws[form.elements.draw.value];
    const type = form.elements.type.value;
    const text = form.elements.text.value.trim().toLowerCase();
    const wanted = new Set([...form.querySelectorAll("input[name=kind]:checked")].map((box) => box.value));
    const counts = {};
    matching = [];
    for (const row of rows) {
      if (text && !wordsOf(cell, row[0]).join(" ").toLowerCase().includes(text)) continue;
      const kinds = kindsOf(row, type);
      kinds.forEach((kind) => { counts[kind] = (counts[kind] || 0) + 1; });
      if ([...kinds].some((kind) => wanted.has(kind))) matching.push(row);
    }
    form.querySelectorAll("[data-count]").forEach((place) => {
      place.textContent = counts[place.dataset.count] || 0;
    });
    const held = Object.values(cell.draws).reduce((sum, part) => sum + part.length, 0);
    found.textContent = `${matching.length} of the ${rows.length} sentences held of draw ` +
      `${form.elements.draw.value}; this cell holds ${held} of its ${cell.asked} answers.`;
    list.replaceChildren();
    grow();
  }

  function grow() {
    const start = list.children.length;
    const next = matching.slice(start, start + STEP).map((row) => sentence(current(), row));
    list.append(...next);
    more.hidden = list.children.length >= matching.length;
    return next[0];
  }

  function sentence(cell, [id, marks, dropped]) {
    const words = wordsOf(cell, id);
    const item = element("li");
    const line = element("p", "words");
    let open = null;
    let openKey = null;
    words.forEach((word, index) => {
      const over = marks.filter((mark) => [mark[1], mark[2]].some((e) => e && e[0] <= index && index < e[1]));
      const gold = over.some((mark) => mark[1] && mark[1][0] <= index && index < mark[1][1]);
      const said = over.some((mark) => mark[2] && mark[2][0] <= index && index < mark[2][1]);
      const key = over.map((mark) => marks.indexOf(mark)).join() + gold + said;
      if (index) (openKey === key && over.length ? open : line).append(" ");
      if (over.length && openKey !== key) {
        const worst = over.find((mark) => mark[0] !== "correct") || over[0];
        open = element("span", `mark k-${worst[0]}${gold ? " gold" : ""}${said ? " said" : ""}`);
        line.append(open);
      }
      (over.length ? open : line).append(word);
      openKey = over.length ? key : null;
    });
    item.append(line);
    const chips = element("ul", "chips");
    for (const [kind, gold, said] of marks) chips.append(chip(kind, explain(kind, gold, said, words)));
    for (const [cause, text] of dropped) chips.append(chip("dropped", `${cause}: ${text}`));
    if (chips.children.length) item.append(chips);
    item.append(element("span", "id", id));
    return item;
  }

  function chip(kind, text) {
    const [sign, words] = data.kinds[kind];
    const made = element("li", `chip k-${kind}`);
    const mark = element("span", "sign", sign);
    mark.setAttribute("aria-hidden", "true");
    made.append(mark, ` ${words} · ${text}`);
    return made;
  }

  function explain(kind, gold, said, words) {
    const quote = (entity) => `“${words.slice(entity[0], entity[1]).join(" ")}”`;
    if (kind === "correct") return `${quote(gold)} ${gold[2]}`;
    if (kind === "type") return `${quote(gold)} ${gold[2]}, predicted ${said[2]}`;
    if (kind === "boundary") return `${quote(gold)} ${gold[2]}, predicted ${quote(said)} ${said[2]}`;
    if (kind === "spurious") return `${quote(said)} ${said[2]}`;
    return `${quote(gold)} ${gold[2]}`;
  }

  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
      target.querySelector("summary").focus({ preventScroll: true });
    }
  }
  addEventListener("hashchange", openTarget);
  openTarget();

  if (!data.cells.length) {
    found.textContent = "No predictions are in the results folder.";
    return;
  }
  fillCells();
  fillCell();
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.text.addEventListener("input", update);
  form.addEventListener("change", (event) => {
    if (event.target === form.elements.text) return;
    if (event.target === form.elements.cell) fillCell();
    update();
  });
  more.addEventListener("click", () => {
    const first = grow();
    if (first) {
      first.tabIndex = -1;
      first.focus();
    }
  });
  document.querySelectorAll("[data-browse]").forEach((link) => {
    link.addEventListener("click", () => {
      form.elements.cell.value = data.cells.findIndex((cell) => cell.key === link.dataset.browse);
      fillCell();
      update();
    });
  });
  update();
})();
