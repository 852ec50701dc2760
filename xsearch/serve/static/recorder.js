// A sound from the microphone, or a picture from the camera, as a part of the query.
import { t } from "./texts.js";
import { use } from "./upload.js";

const LONGEST_MS = 10_000; // a window of sound
const SLICE_MS = 100; // of sound, from which on there is something to search with
const dialog = document.getElementById("recorder");
const part = (selector) => dialog.querySelector(selector);
let session = null; // { stream, finish, end }, empty until there is a stream

/** A session of its stream; null if it cannot be had, or the dialog was closed meanwhile. */
async function open(constraints, title, action) {
  const mine = (session = {});
  part("h2").textContent = t(title);
  part("[data-do=capture]").textContent = t(action);
  part("[data-do=capture]").disabled = true;
  part(".quiet").textContent = "";
  part(".finder").hidden = part(".level").hidden = true;
  dialog.showModal();
  try {
    const stream = await navigator.mediaDevices.getUserMedia(constraints);
    if (session === mine) return Object.assign(mine, { stream });
    stop(stream);
  } catch {
    if (session === mine) part(".quiet").textContent = t("recorder.denied");
  }
  return null;
}

/** Let the visitor capture what arrives in a session. */
function begin(mine, finish) {
  if (session !== mine || mine.finish) return; // closed meanwhile, or begun
  mine.finish = finish;
  part("[data-do=capture]").disabled = false;
}

const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

function close() {
  stop(session?.stream);
  session?.end?.();
  session = null;
  if (dialog.open) dialog.close();
}

async function microphone() {
  const mine = await open({ audio: true }, "recorder.sound", "recorder.start");
  if (!mine) return;
  const { stream } = mine;
  const context = new AudioContext();
  const source = context.createMediaStreamSource(stream);
  const analyser = context.createAnalyser();
  source.connect(analyser);
  const recorder = new MediaRecorder(stream);
  const chunks = [];
  recorder.addEventListener("dataavailable", ({ data }) => {
    chunks.push(data);
    if (data.size) begin(mine, finish);
  });
  recorder.start(SLICE_MS);
  part(".quiet").textContent = t("recorder.listening");
  part(".level").hidden = false;
  const finish = async () => {
    clearTimeout(timer);
    part("[data-do=capture]").disabled = true;
    const stopped = new Promise((done) => recorder.addEventListener("stop", done, { once: true }));
    recorder.stop();
    await stopped;
    const sound = await context.decodeAudioData(await new Blob(chunks).arrayBuffer()).catch(() => null);
    if (session !== mine) return; // cancelled
    close();
    if (sound) use([wav(sound)]);
  };
  const timer = setTimeout(finish, LONGEST_MS);
  mine.end = () => { clearTimeout(timer); context.close(); };
  level(analyser, mine);
}

/** Draw what the microphone hears. */
function level(analyser, mine) {
  if (session !== mine) return;
  const canvas = part(".level");
  const pen = canvas.getContext("2d");
  const wave = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(wave);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = getComputedStyle(part(".primary")).backgroundColor;
  pen.lineWidth = 3;
  pen.beginPath();
  wave.forEach((value, at) => pen.lineTo((at / wave.length) * canvas.width, (0.5 - value) * canvas.height));
  pen.stroke();
  requestAnimationFrame(() => level(analyser, mine));
}

/** A sound as a WAV file: mono, 16 bit. */
function wav(sound) {
  const data = sound.getChannelData(0);
  const view = new DataView(new ArrayBuffer(44 + 2 * data.length));
  const word = (at, text) => [...text].forEach((letter, place) => view.setUint8(at + place, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * data.length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sound.sampleRate, true);
  view.setUint32(28, 2 * sound.sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, 2 * data.length, true);
  data.forEach((value, at) => view.setInt16(44 + 2 * at, Math.max(-1, Math.min(1, value)) * 32767, true));
  return new File([view], "recording.wav", { type: "audio/wav" });
}

async function camera() {
  const mine = await open({ video: { facingMode: "environment", width: 1920 } }, "recorder.picture", "recorder.take");
  if (!mine) return;
  const finder = part(".finder");
  finder.hidden = false;
  finder.srcObject = mine.stream;
  await finder.play().catch(() => {});
  const finish = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: finder.videoWidth, height: finder.videoHeight });
    canvas.getContext("2d").drawImage(finder, 0, 0);
    close();
    canvas.toBlob((picture) => use([new File([picture], "photo.jpg", { type: "image/jpeg" })]), "image/jpeg", 0.92);
  };
  begin(mine, finish);
}

export function start() {
  dialog.addEventListener("close", () => { if (!dialog.open) close(); }); // else it has been opened again
  document.documentElement.classList.toggle("no-capture", !navigator.mediaDevices);
}

export const actions = { microphone, camera, capture: () => session?.finish(), cancel: close };
