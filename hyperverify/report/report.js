"use strict";
(() => {
  const form = document.getElementById("filter");
  const field = form.querySelector("input[type=search]");
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const shown = document.getElementById("shown");

  // A link opens whatever its target is folded into, and ends a filter that hides it.
  const reveal = (hash) => {
    const target = document.getElementById(hash.slice(1));
    if (!target || target === document.body) return;
    if (target.closest("[hidden]")) clear();
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") {
        node.open = true;
        opened.delete(node);
      }
    }
    target.scrollIntoView();
  };
  // Of a link to where the page already stands, the browser tells nothing but the click.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    reveal(link.hash);
  });
  addEventListener("hashchange", () => reveal(location.hash));

  for (const code of document.querySelectorAll("code.cmd")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy the replay command");
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
  }

  form.hidden = false;
  const architecture = (check) => {
    const link = check.querySelector('a[href^="#s"]');
    const words = link && document.getElementById(link.hash.slice(1))?.querySelector("b");
    return words ? words.textContent : "";
  };
  const sections = [...document.querySelectorAll("section.rule")].map((section) => ({
    section,
    name: section.querySelector("h3").textContent,
    groups: [...section.querySelectorAll("details.group")].map((group) => ({
      group,
      name: group.firstElementChild.textContent,
      checks: [...group.querySelectorAll("details.check")].map((check) => ({
        check,
        text: `${check.textContent} ${architecture(check)}`,
        verdict: check.dataset.v || "VERIFIED",
      })),
    })),
  }));
  const opened = new Set(); // groups that the filter has opened: they close when it ends
  let timer;
  const apply = () => {
    clearTimeout(timer);
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(boxes.filter((b) => b.checked).map((b) => b.value));
    const idle = !wanted.length && verdicts.size === boxes.length;
    let total = 0;
    for (const { section, name, groups } of sections) {
      let inSection = 0;
      for (const { group, name: setting, checks } of groups) {
        let inGroup = 0;
        for (const { check, text, verdict } of checks) {
          const all = `${name} ${setting} ${text}`.toLowerCase();
          const fits = verdicts.has(verdict) && wanted.every((word) => all.includes(word));
          check.hidden = !fits;
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
  const clear = () => {
    field.value = "";
    for (const box of boxes) box.checked = true;
    apply();
  };
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 150); });
  for (const box of boxes) box.addEventListener("change", apply);
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  // The browser may have kept what was typed before the page was loaded again.
  apply();
  if (location.hash) reveal(location.hash);
})();
