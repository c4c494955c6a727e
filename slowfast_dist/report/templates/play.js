"use strict";
// Clips play while they are seen, unless the visitor asked for less motion: then on a click.
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const button = document.getElementById("motion");
const clips = [...document.querySelectorAll("video")];
const seen = new Set();
let moving = !still.matches;
const play = (clip) => clip.play().catch(() => {});
const show = () => {
  button.textContent = moving ? "Stop all clips" : "Play all clips";
  for (const clip of clips) moving && seen.has(clip) ? play(clip) : clip.pause();
};
for (const clip of clips) {
  clip.controls = false;
  clip.tabIndex = 0;
  clip.setAttribute("role", "button");
  const toggle = () => (clip.paused ? play(clip) : clip.pause());
  clip.addEventListener("click", toggle);
  clip.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); }
  });
}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    entry.isIntersecting ? seen.add(entry.target) : seen.delete(entry.target);
    if (!entry.isIntersecting) entry.target.pause();
    else if (moving) play(entry.target);
  }
});
clips.forEach((clip) => watcher.observe(clip));
button.hidden = false;
button.addEventListener("click", () => { moving = !moving; show(); });
still.addEventListener("change", () => { moving = !still.matches; show(); });
button.textContent = moving ? "Stop all clips" : "Play all clips";
