// What moves on a page: the server sends parts of it as HTML, and each takes
// the place of the element with its id. A page nobody looks at lets go of its
// connection, of which a browser has few for each server.
"use strict";
(() => {
  const mark = (state, text) => {
    const at = document.getElementById("livemark");
    if (!at || at.dataset.state === state) return;
    at.dataset.state = state;
    at.textContent = text;
  };

  // morph makes an element what another is, keeping what stays the same, and
  // with it focus, selection and what is unfolded.
  const morph = (from, to) => {
    if (from.nodeType !== 1) {
      if (from.data !== to.data) from.data = to.data;
      return;
    }
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
    }
    for (const { name, value } of [...to.attributes]) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    const wanted = [...to.childNodes];
    wanted.forEach((next, i) => place(from, next, i));
    while (from.childNodes.length > wanted.length) from.lastChild.remove();
  };

  const place = (parent, next, i) => {
    let here = parent.childNodes[i];
    if (next.id) {
      const known = [...parent.children].find((e) => e.id === next.id);
      if (known && known !== here) parent.insertBefore(known, here || null);
      if (known) return morph(known, next);
    }
    if (here && here.nodeName === next.nodeName && !here.id && !next.id) return morph(here, next);
    parent.insertBefore(next.cloneNode(true), here || null);
  };

  const receive = (html) => {
    const parsed = document.createElement("template");
    parsed.innerHTML = html;
    for (const next of parsed.content.children) {
      const here = document.getElementById(next.id);
      if (here) morph(here, next);
    }
  };

  let source = null;
  const open = () => {
    const root = document.querySelector("[data-live]");
    if (!root || source || document.hidden) return;
    source = new EventSource(root.dataset.live);
    source.onopen = () => mark("on", "Live");
    source.onerror = () => mark("off", source && source.readyState === 2 ? "Not live; load the page again" : "Reconnecting…");
    source.addEventListener("part", (e) => receive(e.data));
    source.addEventListener("points", (e) => document.dispatchEvent(new CustomEvent("points", { detail: JSON.parse(e.data) })));
    source.addEventListener("trouble", (e) => mark("off", "Reconnecting: " + e.data));
    source.addEventListener("over", () => { close(); location.reload(); });
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);

  // Ticks in a list: all of them at once, and buttons that need at least one.
  const ticks = (name) => [...document.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
  const count = () => {
    for (const button of document.querySelectorAll("[data-needs]")) {
      const chosen = ticks(button.dataset.needs).filter((t) => t.checked).length;
      button.disabled = chosen === 0;
      button.textContent = chosen ? `Move ${chosen} selected…` : "Move selected…";
    }
    for (const all of document.querySelectorAll("[data-all]")) {
      const those = ticks(all.dataset.all);
      const chosen = those.filter((t) => t.checked).length;
      all.checked = chosen > 0 && chosen === those.length;
      all.indeterminate = chosen > 0 && chosen < those.length;
    }
  };
  document.addEventListener("change", (e) => {
    if (e.target.dataset && e.target.dataset.all) ticks(e.target.dataset.all).forEach((t) => (t.checked = e.target.checked));
    count();
  });

  // The dialog shows what was put into it.
  const dialog = document.getElementById("dialog");
  document.addEventListener("htmx:afterSwap", (e) => {
    if (dialog && e.target === dialog && !dialog.open) dialog.showModal();
    const notice = document.getElementById("notice");
    if (notice && e.target !== notice) notice.replaceChildren();
    count();
  });
  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-close]") || e.target === dialog) dialog.close();
  });
  // Links to what is asked in the dialog. Parts that are sent again may change
  // where they lead, so that is read when one is followed.
  document.addEventListener("click", (e) => {
    const link = e.target.closest("a[data-dialog]");
    if (!link || !dialog || e.ctrlKey || e.metaKey || e.shiftKey) return;
    e.preventDefault();
    htmx.ajax("GET", link.getAttribute("href"), { target: "#dialog", swap: "innerHTML" });
  });
  document.addEventListener("htmx:sendError", () => {
    document.getElementById("notice").textContent = "The server does not answer. Nothing was changed; try again in a few seconds.";
  });

  document.documentElement.classList.add("scripts");
  open();
  count();
})();
