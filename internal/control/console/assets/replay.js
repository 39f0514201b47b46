// Replays a record at the pace at which it happened: lines come one after the
// other, and long pauses are shortened.
"use strict";
(() => {
  const player = document.querySelector(".player");
  const lines = [...document.querySelectorAll("#record li[data-at]")];
  if (!player || lines.length === 0) return;
  player.hidden = false;
  const button = player.querySelector("[data-play]");
  const speed = player.querySelector("#speed");
  const at = player.querySelector("[data-at]");
  const longest = 3000;
  let timer = 0, next = lines.length;

  const stop = () => {
    clearTimeout(timer);
    timer = 0;
    button.textContent = next < lines.length ? "Go on" : "Play";
  };
  const step = () => {
    const line = lines[next++];
    line.hidden = false;
    line.scrollIntoView({ block: "nearest" });
    at.textContent = line.querySelector("time").textContent;
    if (next === lines.length) return stop();
    const pause = (lines[next].dataset.at - line.dataset.at) / 1000 / speed.value;
    timer = setTimeout(step, Math.min(pause, longest));
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (next >= lines.length) {
      next = 0;
      lines.forEach((l) => (l.hidden = true));
    }
    button.textContent = "Stop";
    timer = setTimeout(step, 0);
  });
})();
