// Films of one episode play together, and a line in each chart follows them; a click on a chart seeks.
const WIDTH = 360, LEFT = 58, RIGHT = 356;
for (const section of document.querySelectorAll("section")) {
  const films = [...section.querySelectorAll("video")];
  const lines = [...section.querySelectorAll(".now")];
  if (!films.length) { lines.forEach((line) => line.remove()); continue; }
  const follow = () => {
    const film = films[0], share = film.duration ? film.currentTime / film.duration : 0;
    for (const line of lines) {
      const x = LEFT + share * (RIGHT - LEFT);
      line.setAttribute("x1", x); line.setAttribute("x2", x);
    }
    if (!film.paused) requestAnimationFrame(follow);
  };
  const seek = (share) => { for (const film of films) if (film.duration) film.currentTime = share * film.duration; follow(); };
  films.forEach((film) => {
    film.addEventListener("play", () => { films.forEach((other) => { if (other !== film) { other.currentTime = film.currentTime; other.play(); } }); follow(); });
    film.addEventListener("pause", () => films.forEach((other) => other.pause()));
    film.addEventListener("seeked", follow);
  });
  for (const chart of section.querySelectorAll(".chart svg")) {
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * WIDTH;
      seek(Math.min(Math.max((x - LEFT) / (RIGHT - LEFT), 0), 0.999));
    });
  }
}
