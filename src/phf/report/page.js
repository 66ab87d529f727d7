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
    return element("li", "", element("header", "", ...facts), text);
  };

  const draw = () => {
    const last = Math.max(Math.ceil(shown.length / PAGE) - 1, 0);
    page = Math.min(Math.max(page, 0), last);
    const rows = shown.slice(page * PAGE, (page + 1) * PAGE);
    list.replaceChildren(...rows.map(card));
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
    const sign = { worst: -1, best: 1, drawn: 0 }[order.value];
    // Samples without a score stand at the end, whichever way the others are sorted.
    if (sign) shown.sort((a, b) => (a[SCORE] === null) - (b[SCORE] === null) || sign * (a[SCORE] - b[SCORE]));
    page = 0;
    draw();
  };

  let waiting;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, event.target.name === "search" ? 120 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  pages.addEventListener("click", (event) => {
    const by = event.target.dataset.by;
    if (!by) return;
    page += +by;
    draw();
    document.getElementById("browser").scrollIntoView();
  });
  form.hidden = false;
  choose();
})();
