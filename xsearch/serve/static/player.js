// Sounds: a waveform that the server has drawn, in the colours of the page, and one sound at a time.
const audio = new Audio();
let button = null;
let from = 0; // where the sound begins once it is loaded, as a share of it

const wave = () => button?.closest(".tile, .item")?.querySelector(".wave");

function stop() {
  button?.classList.remove("on");
  wave()?.style.setProperty("--played", "0%");
  button = null;
}

function follow() {
  if (!button) return;
  if (!button.isConnected) {
    audio.pause();
    return stop();
  }
  const share = audio.duration ? audio.currentTime / audio.duration : 0;
  wave()?.style.setProperty("--played", `${100 * share}%`);
  const clock = button.parentElement.querySelector(".clock");
  if (clock) clock.value = `0:${String(Math.floor(audio.currentTime)).padStart(2, "0")}`;
  if (!audio.paused) requestAnimationFrame(follow);
}

async function play(chosen) {
  if (button === chosen && !audio.paused) return audio.pause();
  if (button !== chosen) {
    stop();
    button = chosen;
    from = 0;
    audio.src = chosen.dataset.sound;
  }
  document.querySelector("#panel video")?.pause();
  await audio.play().catch(() => { if (button === chosen) stop(); }); // not what has been chosen since
}

function seek() {
  audio.currentTime = from * audio.duration;
}

/** Show the waveforms that have come. */
export function draw() {
  for (const line of document.querySelectorAll(".wave:not(.ready)")) {
    line.style.maskImage = `url("${new URL(line.dataset.wave, location.href).href}")`;
    line.classList.add("ready");
  }
}

export function start() {
  audio.addEventListener("play", () => { button?.classList.add("on"); follow(); });
  audio.addEventListener("pause", () => button?.classList.remove("on"));
  audio.addEventListener("ended", stop);
  audio.addEventListener("loadedmetadata", seek);
  document.addEventListener("click", (event) => {
    const line = event.target.closest(".sound .wave");
    if (!line) return;
    const chosen = line.closest(".sound").querySelector(".play");
    if (button !== chosen) play(chosen);
    from = event.offsetX / line.clientWidth;
    if (audio.duration) seek();
  });
}

export const actions = { play };
