"use strict";
(() => {
  const form = document.getElementById("filter");
  const field = form.querySelector("input[type=search]");
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const selects = [...form.querySelectorAll("select")];
  const shown = document.getElementById("shown");
  const all = document.getElementById("all");

  // --- Copy buttons, on what is seen; a folded check gets its own when it is opened.
  const copyable = (code) => {
    if (code.nextElementSibling?.className === "copy") return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const what = code.classList.contains("cite") ? "the citation" : code.classList.contains("py") ? "the Python" : "the replay command";
    button.setAttribute("aria-label", `Copy ${what}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.after(button);
  };

  // --- What a check shares with others stands once in the page, and is shown in the check as well.
  const target = (check, kind) => {
    const link = check.querySelector(`a[href^="#${kind}"]`);
    return link && document.getElementById(link.hash.slice(1));
  };
  const copied = (node) => {
    const twin = node.cloneNode(true);
    for (const inner of [twin, ...twin.querySelectorAll("[id]")]) inner.removeAttribute("id");
    for (const button of twin.querySelectorAll(".copy")) button.remove();
    return twin;
  };
  // --- Of very many checks those that are verified are drawn when they are opened: interval, measurement.
  const drawn = (low, high, measured, words) => {
    const figure = document.createElement("figure");
    figure.className = "u";
    const svg = (parent, name, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      return parent.appendChild(node);
    };
    const strip = svg(figure, "svg", { viewBox: "0 0 1000 80", role: "img" });
    svg(strip, "title", {}).textContent = words;
    svg(strip, "use", { href: "#usual" });
    svg(strip, "path", { class: "range", d: `M${low} 56H${high}` });
    svg(strip, "path", { class: "dot", d: `M${measured} 56h0` });
    return figure;
  };
  const fill = (check) => {
    if (check.dataset.full) return;
    check.dataset.full = "yes";
    if (check.dataset.s) check.querySelector(".nums").before(drawn(...check.dataset.s.split(","), `Measured ${check.querySelector("em").textContent}`));
    const more = document.createElement("div");
    more.className = "more";
    const part = (title, ...nodes) => {
      const label = document.createElement("p");
      label.className = "where";
      label.textContent = title;
      more.append(label, ...nodes);
    };
    const rule = check.closest("section.rule")?.querySelector(".formula");
    if (rule) part("Rule", copied(rule));
    const formula = target(check, "f")?.querySelector("dd");
    if (formula) {
      const line = document.createElement("p");
      line.className = "formula";
      const span = document.createElement("span");
      span.append(...copied(formula).childNodes);
      line.append(span);
      part("Prediction", line);
    }
    const assumed = check.querySelector('a[href^="#a"]');
    const texts = [...(target(check, "a")?.querySelectorAll("li") || [])];
    const numbers = assumed ? assumed.textContent.match(/\d+/g) : [];
    if (texts.length) {
      const list = document.createElement("ul");
      list.append(...numbers.map((number) => copied(texts[number - 1])));
      part("Assumptions", list);
    }
    const departure = check.querySelector('.departure > a');
    if (departure) part("Departure from the paper", copied(document.getElementById(departure.hash.slice(1)).querySelector("p")));
    const net = target(check, "s")?.querySelector(".net");
    if (net) {
      const twin = copied(net);
      twin.querySelector(".drawing")?.setAttribute("aria-label", `Network of check ${check.id.slice(1)}`);
      part("Network", twin);
    }
    check.append(more);
    for (const line of more.querySelectorAll(".formula > span")) if (line.scrollWidth > line.clientWidth) line.tabIndex = 0;
    for (const code of check.querySelectorAll("kbd, pre.py")) copyable(code);
  };
  document.addEventListener("toggle", (event) => {
    const folded = event.target;
    if (!folded.open) return;
    if (folded.classList.contains("check")) fill(folded);
    else for (const code of folded.querySelectorAll(":scope > .specs pre.py")) copyable(code);
  }, true);
  for (const code of document.querySelectorAll(".card .cmd, .cite")) copyable(code);

  // --- The filter. What it is set to stands in the URL after the #, as #q=depth&rule=M3.
  const keys = ["q", "verdict", ...selects.map((select) => select.name)];
  const isFilter = (hash) => keys.some((key) => hash.startsWith(`#${key}=`));
  let sections;
  const gather = () => [...document.querySelectorAll("section.rule")].map((section) => ({
    section,
    rule: section.querySelector(".id").textContent,
    name: section.querySelector("h3").textContent,
    // Checks of several rules are printed under the first, and linked from the others.
    linked: new Set([...section.querySelectorAll(".also a")].map((link) => link.hash.slice(1))),
    groups: [...section.querySelectorAll("details.group")].map((group) => ({
      group,
      name: group.firstElementChild.textContent,
      checks: [...group.querySelectorAll("details.check")].map((check) => {
        const architecture = target(check, "s")?.querySelector("b")?.textContent || "";
        return {
          check,
          architecture,
          quantity: check.querySelector("b").textContent,
          backend: check.dataset.b || "",
          text: `${check.textContent} ${architecture}`,
          verdict: check.dataset.v || "VERIFIED",
        };
      }),
    })),
  }));
  const opened = new Set(); // groups that the filter has opened: they close when it ends
  let timer;
  const apply = () => {
    clearTimeout(timer);
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const chosen = Object.fromEntries(selects.map((select) => [select.name, select.value]));
    const asked = ["quantity", "architecture", "backend"].filter((key) => chosen[key]);
    const idle = isIdle();
    all.hidden = idle;
    if (idle && !sections) return;
    sections ||= gather();
    const linked = sections.find((found) => found.rule === chosen.rule)?.linked;
    let total = 0;
    for (const { section, rule, name, groups } of sections) {
      const here = !chosen.rule || chosen.rule === rule;
      let inSection = 0;
      for (const { group, name: setting, checks } of groups) {
        let inGroup = 0;
        for (const item of checks) {
          const text = wanted.length ? `${name} ${setting} ${item.text}`.toLowerCase() : "";
          const fits = (here || linked?.has(item.check.id)) && verdicts.has(item.verdict) && wanted.every((word) => text.includes(word))
            && asked.every((key) => (key === "architecture" ? item[key].split("; ").includes(chosen[key]) : item[key] === chosen[key]));
          item.check.hidden = !fits;
          inGroup += fits;
        }
        if (!idle && inGroup && !group.open) {
          group.open = true;
          opened.add(group);
        }
        group.hidden = !inGroup && !(idle && !checks.length);
        inSection += inGroup;
      }
      section.hidden = !inSection && !idle;
      total += inSection;
    }
    if (idle) {
      for (const group of opened) group.open = false;
      opened.clear();
    }
    shown.textContent = idle ? "" : `${total.toLocaleString("en")} shown`;
  };
  const isIdle = () => !field.value.trim() && boxes.every((box) => box.checked) && selects.every((select) => !select.value);
  const clear = () => {
    field.value = "";
    for (const box of boxes) box.checked = true;
    for (const select of selects) select.value = "";
    apply();
  };
  const remember = (replace) => {
    const told = new URLSearchParams();
    if (field.value.trim()) told.set("q", field.value.trim());
    if (!boxes.every((box) => box.checked)) told.set("verdict", boxes.filter((box) => box.checked).map((box) => box.value).join());
    for (const select of selects) if (select.value) told.set(select.name, select.value);
    const hash = told.size ? `#${told}` : "#checks";
    if (hash !== location.hash) history[replace && isFilter(location.hash) ? "replaceState" : "pushState"](null, "", hash);
  };
  const recall = () => {
    const told = new URLSearchParams(location.hash.slice(1));
    field.value = told.get("q") || "";
    const verdicts = told.has("verdict") ? told.get("verdict").split(",") : null;
    for (const box of boxes) box.checked = !verdicts || verdicts.includes(box.value);
    for (const select of selects) select.value = told.get(select.name) || "";
    for (const select of selects) if (select.selectedIndex < 0) select.value = "";
    apply();
  };
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { apply(); remember(true); }, 150);
  });
  for (const input of [...boxes, ...selects]) input.addEventListener("change", () => { apply(); remember(false); });
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); remember(true); });
  all.addEventListener("click", () => { clear(); remember(false); field.focus(); });

  // --- Links. One opens whatever its target is folded into; the filter gives way to it.
  const reveal = (hash) => {
    const found = document.getElementById(hash.slice(1));
    if (!found || found === document.body) return;
    if (found.closest("[hidden]")) clear();
    for (let node = found; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") {
        node.open = true;
        opened.delete(node);
      }
    }
    found.scrollIntoView();
  };
  const follow = () => {
    if (isFilter(location.hash)) {
      recall();
      document.getElementById("checks").scrollIntoView();
      return;
    }
    if (!isIdle()) clear();
    if (location.hash) reveal(location.hash);
  };
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  // Of a link to where the page already stands, the browser tells nothing but the click.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (link.hash === location.hash) follow();
  });

  form.hidden = false;
  // The browser may have kept what was set before the page was loaded again: the URL decides.
  if (isFilter(location.hash)) follow();
  else {
    clear();
    if (location.hash) reveal(location.hash);
  }
})();
