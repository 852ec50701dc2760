// What the page says: to screen readers, and to everybody for a few seconds.
const status = document.getElementById("status");
const toast = document.getElementById("toast");
let timer;

export function announce(text) {
  if (text && status.textContent !== text) status.textContent = text;
}

export function say(text) {
  toast.textContent = text;
  if (toast.matches(":popover-open")) toast.hidePopover();
  toast.showPopover(); // above a dialog that was opened meanwhile
  clearTimeout(timer);
  timer = setTimeout(() => { toast.hidePopover(); }, 4000 + 40 * text.length);
}
