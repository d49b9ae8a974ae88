"use strict";
(() => {
  // A link to a check opens whatever it is folded into.
  const reveal = () => {
    let node = document.getElementById(location.hash.slice(1));
    const target = node;
    if (!target || target === document.body) return;
    for (; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

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

  const form = document.getElementById("filter");
  if (!form) return;
  form.hidden = false;
  const field = form.querySelector("input[type=search]");
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const shown = document.getElementById("shown");
  const sections = [...document.querySelectorAll("section.rule")].map((section) => ({
    section,
    name: section.querySelector("h3").textContent,
    groups: [...section.querySelectorAll("details.group")].map((group) => ({
      group,
      name: group.firstElementChild.textContent,
      checks: [...group.querySelectorAll("details.check")].map((check) => ({
        check,
        text: check.textContent,
        verdict: check.dataset.v,
      })),
    })),
  }));
  const apply = () => {
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
        if (!idle && inGroup) group.open = true;
        group.hidden = !inGroup && !(idle && !checks.length);
        inSection += inGroup;
      }
      section.hidden = !inSection && !idle;
      total += inSection;
    }
    shown.textContent = idle ? "" : `${total.toLocaleString("en")} shown`;
  };
  let timer;
  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 150); });
  for (const box of boxes) box.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
})();
