"use strict";

function sortKey(cell) {
  if (!cell.classList.contains("number")) return cell.textContent.trim().toLowerCase();
  return "value" in cell.dataset ? Number(cell.dataset.value) : null;
}

function sortBy(table, column, ascending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [sortKey(row.cells[column]), row]);
  rows.sort(([one], [other]) => {
    // Cells that could not be filled come last, whichever way the rest is sorted.
    if (one === null || other === null) return (one === null) - (other === null);
    const order = typeof one === "number" ? one - other : one.localeCompare(other);
    return ascending ? order : -order;
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll(".results table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", now);
      sortBy(table, column, now === "ascending");
    });
  });
  const article = table.closest(".results");
  for (const box of article.querySelectorAll("[data-choice]")) {
    const name = box.dataset.choice === "best" ? "show-best" : "only-ood";
    const apply = () => table.classList.toggle(name, box.checked);
    box.addEventListener("change", apply);
    apply();
  }
  const note = article.querySelector(".note");
  for (const cell of table.querySelectorAll("[data-note]")) {
    const tell = () => {
      const column = heads[cell.cellIndex].textContent.trim();
      note.textContent = `${cell.parentElement.cells[0].textContent.trim()}, ${column}: ${cell.dataset.note}`;
    };
    cell.addEventListener("focus", tell);
    cell.addEventListener("click", tell);
  }
}

for (const clip of document.querySelectorAll(".clip")) {
  const seconds = Number(clip.dataset.seconds);
  const lines = JSON.parse(clip.dataset.lines);
  const media = clip.querySelector("video, audio");
  const timeline = clip.querySelector(".timeline");
  const playhead = clip.querySelector(".playhead");
  const clock = clip.querySelector("output");
  const labels = [...clip.querySelectorAll(".legend label")];
  let now = 0;

  function show(time) {
    now = Math.min(Math.max(time, 0), seconds);
    playhead.style.left = `${(100 * now) / seconds}%`;
    clock.textContent = `${now.toFixed(2)} s`;
    timeline.setAttribute("aria-valuenow", now.toFixed(2));
    timeline.setAttribute("aria-valuetext", clock.textContent);
    lines.forEach((line, k) => {
      const at = Math.round((now - line.first) / line.step);
      const score = line.scores[Math.min(Math.max(at, 0), line.scores.length - 1)];
      labels[k].querySelector(".now").textContent = score === undefined ? "" : score.toFixed(2);
    });
  }

  function seek(time) {
    show(time);
    if (media) media.currentTime = Math.min(now, media.duration || now);
  }

  function pointed(event) {
    const box = timeline.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * seconds);
  }

  timeline.addEventListener("pointerdown", (event) => {
    pointed(event);
    timeline.setPointerCapture(event.pointerId);
  });
  timeline.addEventListener("pointermove", (event) => {
    if (timeline.hasPointerCapture(event.pointerId)) pointed(event);
  });
  timeline.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -0.04, ArrowRight: 0.04, ArrowDown: -0.04, ArrowUp: 0.04, PageDown: -1, PageUp: 1 };
    if (event.key in steps) seek(now + steps[event.key]);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(seconds);
    else if (event.key === " " && media) media.paused ? media.play() : media.pause();
    else return;
    event.preventDefault();
  });
  for (const box of clip.querySelectorAll("input[data-feature]")) {
    box.addEventListener("change", () => {
      for (const path of timeline.querySelectorAll("path[data-feature]")) {
        if (path.dataset.feature === box.dataset.feature) path.toggleAttribute("hidden", !box.checked);
      }
    });
  }
  if (media) {
    const follow = () => {
      show(media.currentTime);
      if (!media.paused && !media.ended) requestAnimationFrame(follow);
    };
    media.addEventListener("play", follow);
    media.addEventListener("timeupdate", () => media.paused && show(media.currentTime));
    media.addEventListener("seeked", () => show(media.currentTime));
  }
  show(0);
}
