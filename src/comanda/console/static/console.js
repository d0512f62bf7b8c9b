// The console works without this: it keeps the middle of a page up to date, and answers to the keyboard.
"use strict";
(() => {
  const live = document.getElementById("live");
  const mark = document.getElementById("live-mark");
  const heard = (is) => { if (mark) mark.toggleAttribute("data-on", is); };
  if (live && "EventSource" in window) {
    let source = null;
    const listen = () => {
      if (source || document.hidden) return;
      source = new EventSource(`/admin/live?view=${encodeURIComponent(live.dataset.view)}`);
      source.addEventListener("open", () => heard(true));
      source.addEventListener("error", () => heard(false));
      source.addEventListener("piece", (event) => {
        // What somebody is about to use is not taken from under their hands.
        if (live.contains(document.activeElement)) return;
        live.innerHTML = event.data;
      });
    };
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) { listen(); return; }
      if (source) { source.close(); source = null; heard(false); }
    });
    listen();
  }

  const help = document.getElementById("help");
  const places = {};
  for (const link of document.querySelectorAll("a[data-key]")) places[link.dataset.key] = link.href;
  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "?" && help) { help.showModal(); return; }
    if (event.key === "/") {
      const search = document.querySelector("input[type=search]");
      event.preventDefault();
      if (search) { search.focus(); search.select(); } else { location.assign("/admin/orders#search"); }
      return;
    }
    if (event.key === "g") { went = Date.now(); return; }
    if (Date.now() - went < 1500 && places[event.key]) location.assign(places[event.key]);
    went = 0;
    const rows = [...document.querySelectorAll("tbody a[data-row]")];
    const at = rows.indexOf(document.activeElement);
    if (event.key === "j" && rows.length) rows[Math.min(at + 1, rows.length - 1)].focus();
    if (event.key === "k" && rows.length) rows[Math.max(at - 1, 0)].focus();
    const first = document.getElementById("first-failure");
    if (event.key === "f" && first) first.click();
  });
  if (location.hash === "#search") document.querySelector("input[type=search]")?.focus();
  for (const button of document.querySelectorAll("[data-opens]"))
    button.addEventListener("click", () => document.getElementById(button.dataset.opens).showModal());
})();
