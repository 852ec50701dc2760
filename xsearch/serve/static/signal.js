// Numbers behind a picture in the panel: the axes of a motion as charts, the range of a colour map.

const AXES = { x: "#4e79c4", y: "#c9721a", z: "#2f8a5d" }; // as preview.AXES

async function motion(place, { series, unit }) {
  const { default: uPlot } = await import("./vendor/uplot/uPlot.esm.js");
  if (!place.isConnected) return;
  const ink = getComputedStyle(place).color;
  const grid = { stroke: "#8883", width: 1 };
  const height = place.clientHeight / 2 - 40;
  place.replaceChildren();
  for (const sensor of ["accel", "gyro"]) {
    const names = Object.keys(AXES).map((axis) => `${sensor}_${axis}`);
    const data = [series.time_s, ...names.map((name) => series[name])];
    new uPlot({
      width: place.clientWidth - 32, height, cursor: { sync: { key: "motion" } }, scales: { x: { time: false } },
      axes: [{ stroke: ink, grid }, { stroke: ink, grid, label: unit[names[0]] ?? "", labelSize: 18, size: 44 }],
      series: [
        { label: "s" },
        ...Object.entries(AXES).map(([axis, stroke]) => ({ label: axis, stroke, width: 1.4 })),
      ],
    }, data, place);
  }
}

function range(place, { kind, legend }) {
  if (legend.length < 2) return;
  const [left, right] = place.querySelectorAll("i");
  place.querySelector("b").style.background = `linear-gradient(to right, ${legend.map(({ colour }) => colour).join(", ")})`;
  if (kind !== "depth") return;
  left.textContent = `${legend[0].value.toPrecision(2)} m`;
  right.textContent = `${legend.at(-1).value.toPrecision(2)} m`;
}

export async function draw() {
  for (const place of document.querySelectorAll("#panel [data-signal]")) {
    const url = place.dataset.signal;
    delete place.dataset.signal;
    const answer = await fetch(url).catch(() => null);
    if (!answer?.ok || !place.isConnected) continue;
    const signal = await answer.json();
    if (place.classList.contains("scale")) range(place, signal);
    else await motion(place, signal);
  }
}
