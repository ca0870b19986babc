// The page: what is chosen, and the parts that show it.

document.documentElement.classList.add("js");

function showRegion(region) {
  for (const table of document.querySelectorAll(".region")) {
    const others = [...table.parentElement.querySelectorAll(":scope > .region")].map((each) => each.dataset.region);
    // A section that does not have the region goes on showing its own first one.
    table.hidden = table.dataset.region !== (others.includes(region) ? region : others[0]);
  }
  for (const select of document.querySelectorAll(".region-choice")) {
    if ([...select.options].some((option) => option.value === region)) select.value = region;
  }
}

function startFrames() {
  const section = byId("frames");
  section.hidden = false;
  const state = { row: null, metric: null, region: null, frame: 0 };
  let film = null;
  let thumbnails = null;
  // The scored frames that can be gone to: those of the film.
  let positions = data.film ? data.film.numbers : data.seconds.map((_, n) => n);

  // The position that shows scored frame `number`, or the one nearest to it in time.
  const positionOf = (number) => {
    let best = 0;
    const away = (k) => Math.abs(data.seconds[positions[k]] - data.seconds[number]);
    for (let k = 0; k < positions.length; k++) if (positions[k] === number) return k;
    for (let k = 1; k < positions.length; k++) if (away(k) < away(best)) best = k;
    return best;
  };
  const frameText = (number) => {
    const at = `${data.seconds[number].toFixed(2)}\u00a0s`;
    return data.reference.length ? `frame ${data.reference[number]}, ${at}` : at;
  };

  const slider = byId("position");
  const showPosition = () => {
    const number = positions[state.frame];
    slider.value = state.frame;
    slider.setAttribute("aria-valuetext", frameText(number));
    byId("readout").textContent = `${frameText(number)} (${state.frame + 1} of ${positions.length})`;
    curves.move(number);
    for (const button of document.querySelectorAll("#extremes button")) {
      button.setAttribute("aria-current", String(+button.dataset.number === number));
    }
  };
  const drawPictures = () => {
    if (!film || film.video.readyState < 2 || !data.film.tiles[state.row]) return;
    film.cut(byId("reference"), "reference", "picture");
    film.cut(byId("result"), state.row, "picture");
    film.cut(byId("difference"), state.row, "difference");
  };
  const go = (k) => {
    state.frame = Math.min(Math.max(k, 0), positions.length - 1);
    showPosition();
    film?.go(state.frame);
  };
  const step = (by) => {
    film?.video.pause();
    go(state.frame + by);
  };
  const toggle = () => {
    if (!film) return;
    if (film.playing) {
      film.video.pause();
      return;
    }
    if (state.frame === positions.length - 1) go(0);
    // Refused where it is paused before it began.
    film.video.play().catch(() => {});
  };

  const curves = new Curves(byId("plot"), byId("legend"), (number) => go(positionOf(number)));
  slider.max = positions.length - 1;
  slider.addEventListener("input", () => go(+slider.value));
  byId("back").addEventListener("click", () => step(-1));
  byId("forth").addEventListener("click", () => step(1));
  byId("play").addEventListener("click", toggle);

  function showExtremes() {
    const found = data.extremes[state.row]?.[state.region]?.[state.metric];
    const label = data.rows.find((row) => row.name === state.row)?.label;
    const jobs = [];
    const parts = [];
    for (const [end, title] of [["worst", "Worst frames"], ["best", "Best frames"]]) {
      if (!found?.[end].length) continue;
      const row = element("div", { class: "row-of-frames" });
      for (const number of found[end]) {
        const value = data.perFrame[state.row][state.region][state.metric][number];
        const caption = element("span", {}, frameText(number), element("br"), `${data.measures[state.metric].label} ${asText(value)}`);
        const button = element("button", { type: "button", "data-number": number });
        if (film && data.film.tiles[state.row]) {
          const canvas = element("canvas", { width: data.film.width, height: data.film.height, "aria-hidden": "true" });
          button.append(canvas);
          jobs.push([positionOf(number), state.row, canvas]);
        }
        button.append(caption);
        button.addEventListener("click", () => {
          film?.video.pause();
          go(positionOf(number));
          byId("player").scrollIntoView({ block: "nearest" });
        });
        row.append(button);
      }
      parts.push(element("div", {}, element("h3", {}, `${title} of ${label}`), row));
    }
    byId("extremes").replaceChildren(...parts);
    thumbnails?.draw(jobs);
  }

  function choose() {
    state.row = byId("row").value;
    state.metric = byId("metric").value;
    const label = data.rows.find((row) => row.name === state.row)?.label ?? "result";
    byId("result-name").textContent = label;
    byId("result").setAttribute("aria-label", label);
    curves.show(state.metric, state.region);
    showExtremes();
    showPosition();
    drawPictures();
  }

  fillSelect(byId("row"), data.rows.map((row) => [row.name, row.label]));
  fillSelect(byId("metric"), data.metrics.map((metric) => [metric, data.measures[metric].label]));
  fillSelect(byId("region"), data.regions);
  byId("region-choice").hidden = data.regions.length < 2;
  for (const id of ["row", "metric"]) byId(id).addEventListener("change", choose);

  const withoutFilm = () => {
    film = thumbnails = null;
    positions = data.seconds.map((_, n) => n);
    slider.max = positions.length - 1;
    byId("pictures").hidden = byId("play").hidden = true;
  };
  if (data.film) {
    const failed = () => {
      withoutFilm();
      byId("trouble").textContent = "This browser cannot play the film (H.264): the curves work without it.";
      byId("trouble").hidden = false;
      choose();
    };
    film = new Film(byId("film"), data.film, byId("film-data").textContent, failed);
    thumbnails = new Thumbnails(film);
    byId("pictures").hidden = false;
    film.shown = (frame) => {
      state.frame = frame;
      drawPictures();
      showPosition();
      byId("player").dataset.shown = frame;
    };
    film.stopped = () => {
      byId("play").textContent = film.playing ? "❚❚" : "▶";
      byId("play").setAttribute("aria-label", film.playing ? "pause" : "play");
    };
  } else {
    withoutFilm();
    byId("film-note").hidden = true;
  }

  const keys = {
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
    Home: () => step(-positions.length),
    End: () => step(positions.length),
    " ": toggle,
  };
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    const elsewhere = at !== document.body && !byId("player").contains(at);
    // A list keeps its keys; a button is pressed by the space bar; the slider moves itself.
    const own = /^(SELECT|INPUT)$/.test(at.tagName) ? event.key !== " " || at.tagName === "SELECT" : at.tagName === "BUTTON" && event.key === " ";
    if (elsewhere || own || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key](event);
  });

  return (region) => {
    state.region = region;
    choose();
  };
}

const framesRegion = data.seconds.length && data.metrics.length ? startFrames() : () => {};
const allRegions = [...new Set([...document.querySelectorAll(".region-choice option")].map((option) => option.value))];
function chooseRegion(region) {
  showRegion(region);
  framesRegion(data.regions.some(([name]) => name === region) ? region : data.regions[0]?.[0]);
}
for (const select of document.querySelectorAll(".region-choice")) {
  select.addEventListener("change", () => chooseRegion(select.value));
}
chooseRegion(allRegions[0]);
if (data.ablation) startAblation();

window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => (each.open = true)));
