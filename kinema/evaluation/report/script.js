"use strict";
// Without this script every link still leads to its video; with it, the video also plays.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.film");
  if (!link) return;
  for (const clip of document.querySelectorAll(".clip.current")) clip.classList.remove("current");
  const clip = document.getElementById(link.hash.slice(1));
  clip.classList.add("current");
  const video = clip.querySelector("video");
  video.currentTime = 0;
  video.play().catch(() => video.focus());
});
document.addEventListener("play", (event) => {
  for (const video of document.querySelectorAll("video")) if (video !== event.target) video.pause();
}, true);
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
