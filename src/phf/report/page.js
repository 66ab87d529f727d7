"use strict";
(() => {
  // Theme: the system's unless the reader chooses.
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("phf-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("phf-theme", root.dataset.theme); } catch { /* a page without storage forgets */ }
    label();
  });
  system.addEventListener("change", label);
  label();

  // Closed details are printed too, and closed again afterwards.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });

  const copy = async (text, button) => {
    try { await navigator.clipboard.writeText(text); } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1200);
  };
  const copyButton = (label, text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = label;
    button.addEventListener("click", () => copy(text(), button));
    return button;
  };
  const markdown = (table) => {
    const words = (cell) => [...cell.childNodes].map((node) => node.textContent.trim()).filter(Boolean).join(" ").replaceAll("|", "\\|").replace(/\s+/g, " ");
    const rows = [...table.rows].map((row) => `| ${[...row.cells].map(words).join(" | ")} |`);
    rows.splice(1, 0, `|${" --- |".repeat(table.rows[0].cells.length)}`);
    return rows.join("\n");
  };
  for (const table of document.querySelectorAll("table")) {
    table.parentElement.before(copyButton("Copy as Markdown", () => markdown(table)));
  }

  // Sample browser. Texts only ever enter the page as text nodes.
  const holder = document.getElementById("data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent), PAGE = 20;
  const [RUN, SCENARIO, PROMPT, TEXT, SCORED, SCORE, FINISHED, FOUND] = Array(8).keys();
  const form = document.getElementById("controls"), list = document.getElementById("samples");
  const count = document.getElementById("count"), pages = document.getElementById("pages");
  let shown = [], page = 0;

  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  const marker = (style) => {
    const template = document.querySelector(`#markers [data-style="${style}"]`);
    return template ? template.content.cloneNode(true) : "";
  };

  // Cut a text where findings begin and end and where scoring stops; give each piece its element.
  const pieces = (row) => {
    const text = row[TEXT], found = row[FOUND];
    const cuts = new Set([0, text.length, row[SCORED], ...found.flatMap(([start, end]) => [start, end])]);
    const places = [...cuts].sort((a, b) => a - b);
    return places.slice(1).map((end, index) => {
      const start = places[index], inside = found.find((span) => span[0] <= start && end <= span[1]);
      let node = document.createTextNode(text.slice(start, end));
      if (start >= row[SCORED]) node = element("span", "cut", node);
      if (!inside) return node;
      const mark = element("mark", "", node);
      mark.title = inside.slice(2).map((kind) => data.kinds[kind]).join(", ");
      return mark;
    });
  };

  const card = (row) => {
    const [run, style, scale] = data.runs[row[RUN]], kinds = new Set(row[FOUND].flatMap((span) => span.slice(2)));
    const name = element("b", "", marker(style), run);
    name.style.color = `var(--${style})`;
    const facts = [name, element("span", "score", row[SCORE] === null ? "not scored" : `${+(row[SCORE] * scale).toPrecision(3)}`)];
    if (kinds.size) facts.push(element("span", "", "found: " + [...kinds].map((kind) => data.kinds[kind]).join(", ")));
    if (row[FINISHED] === false) facts.push(element("span", "", "cut off by the length limit"));
    const text = element("div", "text", ...(row[PROMPT] ? [element("span", "prompt", row[PROMPT])] : []), ...pieces(row));
    text.tabIndex = 0;
    facts.push(copyButton("Copy", () => row[PROMPT] + row[TEXT]));
    return element("div", "", element("header", "", ...facts), text);
  };

  // Pair a sample with the other run's sample of the same scenario, prompt and turn.
  const turns = new Map(), keys = new Map();
  for (const row of data.rows) {
    const group = JSON.stringify([row[RUN], row[SCENARIO], row[PROMPT]]), turn = turns.get(group) ?? 0;
    turns.set(group, turn + 1);
    keys.set(row, JSON.stringify([row[SCENARIO], row[PROMPT], turn]));
  }
  const partners = (run) => new Map(data.rows.filter((row) => row[RUN] === run).map((row) => [keys.get(row), row]));
  let beside = null;
  const item = (row) => {
    if (!beside) return element("li", "", card(row));
    const other = beside.get(keys.get(row));
    return element("li", "pair", card(row), other ? card(other) : element("p", "empty", "The other run has no sample here."));
  };

  const histogram = () => {
    const figure = document.getElementById("histogram"), bars = figure.firstElementChild;
    const known = shown.filter((row) => row[SCORE] !== null).map((row) => row[SCORE] * data.runs[row[RUN]][2]);
    const top = Math.max(...known), BINS = 24;
    figure.hidden = known.length < 2 || !(top > 0);
    if (figure.hidden) return;
    const counts = new Array(BINS).fill(0);
    for (const score of known) counts[Math.min(Math.floor(Math.max(score, 0) / top * BINS), BINS - 1)] += 1;
    const most = Math.log1p(Math.max(...counts));
    bars.replaceChildren(...counts.map((count) => {
      const bar = document.createElement("i");
      bar.style.height = `${100 * Math.log1p(count) / most}%`;
      bar.title = `${count}`;
      return bar;
    }));
    const words = `Scores of these samples from 0 to ${+top.toPrecision(3)}, heights on a logarithmic scale`;
    bars.setAttribute("aria-label", words);
    figure.lastElementChild.textContent = `${words}.`;
  };

  const FIELDS = ["run", "beside", "scenario", "order", "search", "found"];
  const value = (field) => (field.type === "checkbox" ? (field.checked ? "1" : "") : field.value);
  const remember = () => {
    const state = new URLSearchParams(FIELDS.map((name) => [name, value(form.elements[name])]).filter(([, text]) => text !== ""));
    if (page) state.set("page", page + 1);
    try { history.replaceState(null, "", `#samples&${state}`); } catch { /* some viewers forbid it */ }
  };
  const recall = () => {
    if (!location.hash.startsWith("#samples&")) return 0;
    const state = new URLSearchParams(location.hash.slice(9));
    for (const name of FIELDS) {
      const field = form.elements[name];
      if (field.type === "checkbox") field.checked = state.get(name) === "1";
      else if (state.has(name) && (field.type === "search" || [...field.options].some((option) => option.value === state.get(name)))) field.value = state.get(name);
    }
    return Math.max(Number.parseInt(state.get("page") ?? "1", 10) - 1, 0) || 0;
  };

  const draw = () => {
    const last = Math.max(Math.ceil(shown.length / PAGE) - 1, 0);
    page = Math.min(Math.max(page, 0), last);
    const rows = shown.slice(page * PAGE, (page + 1) * PAGE);
    list.replaceChildren(...rows.map(item));
    list.classList.toggle("blur", form.elements.blur.checked);
    count.textContent = shown.length === 1 ? "1 sample" : `${shown.length.toLocaleString("en")} samples`;
    pages.hidden = last === 0;
    pages.querySelector("span").textContent = `${page + 1} of ${last + 1}`;
    pages.firstElementChild.disabled = page === 0;
    pages.lastElementChild.disabled = page === last;
  };

  const choose = () => {
    const { run, scenario, order, search, found } = form.elements, words = search.value.trim().toLowerCase();
    shown = data.rows.filter((row) =>
      (run.value === "" || row[RUN] === +run.value) && row[SCENARIO] === +scenario.value && (!found.checked || row[FOUND].length)
      && (!words || (row.plain ??= (row[PROMPT] + row[TEXT]).toLowerCase()).includes(words)));
    const sign = { worst: -1, best: 1, sampled: 0 }[order.value];
    // Samples without a score stand at the end, whichever way the others are sorted.
    if (sign) shown.sort((a, b) => (a[SCORE] === null) - (b[SCORE] === null) || sign * (a[SCORE] - b[SCORE]));
    beside = form.elements.beside.value === "" ? null : partners(+form.elements.beside.value);
    page = 0;
    histogram();
    draw();
  };

  let waiting;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { choose(); remember(); }, event.target.name === "search" ? 120 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => {
    page += by;
    draw();
    remember();
    document.getElementById("browser").scrollIntoView();
  };
  pages.addEventListener("click", (event) => { if (event.target.dataset.by) turn(+event.target.dataset.by); });
  addEventListener("keydown", (event) => {
    if (event.target.matches("input,select,textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const texts = [...list.querySelectorAll(".text")], at = texts.indexOf(document.activeElement);
    if (event.key === "ArrowRight" && !pages.lastElementChild.disabled && !pages.hidden) turn(1);
    else if (event.key === "ArrowLeft" && !pages.firstElementChild.disabled && !pages.hidden) turn(-1);
    else if (event.key === "j") texts[Math.min(at + 1, texts.length - 1)]?.focus();
    else if (event.key === "k") texts[Math.max(at - 1, 0)]?.focus();
    else if (event.key === "c" && at >= 0) texts[at].parentElement.querySelector(".copy").click();
  });
  form.hidden = false;
  const start = recall();
  choose();
  page = start;
  draw();
})();
