// Points on a plane, drawn into the pixels of a canvas: 100,000 take some ten milliseconds, without WebGL.

/** A disc of a radius in device pixels: offsets and coverage. */
function disc(radius) {
  const spots = [];
  const reach = Math.ceil(radius);
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.min(1, radius + 0.5 - Math.hypot(x, y));
      if (cover > 0) spots.push([x, y, cover]);
    }
  }
  return spots;
}

export class Plane {
  /** Of no points; x and y of points are in -1..1, kind: for each an index into `colours`, [r, g, b] each. */
  constructor(canvas) {
    Object.assign(this, { canvas, x: [], y: [], kind: [], zoom: 1, at: [0, 0], chosen: new Set() });
    this.pen = canvas.getContext("2d");
  }

  get scale() {
    return 0.46 * Math.min(this.canvas.width, this.canvas.height) * this.zoom;
  }

  /** Where a point of the plane is on the canvas, in device pixels. */
  project(x, y) {
    const { canvas, scale, at } = this;
    return [canvas.width / 2 + (x - at[0]) * scale, canvas.height / 2 - (y - at[1]) * scale];
  }

  /** The reverse, from CSS pixels. */
  locate(left, top) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    return [
      (left * ratio - this.canvas.width / 2) / this.scale + this.at[0],
      -(top * ratio - this.canvas.height / 2) / this.scale + this.at[1],
    ];
  }

  fit() {
    const ratio = Math.min(devicePixelRatio, 2);
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
  }

  zoomTo(factor, left = this.canvas.clientWidth / 2, top = this.canvas.clientHeight / 2) {
    const [x, y] = this.locate(left, top);
    const most = Math.max(8, Math.sqrt(this.x.length)); // at which some points are still on the canvas
    this.zoom = Math.min(most, Math.max(0.8, this.zoom * factor));
    const [now, then] = this.locate(left, top);
    this.at = [this.at[0] + x - now, this.at[1] + y - then];
  }

  move(dx, dy) {
    const ratio = this.canvas.width / this.canvas.clientWidth;
    this.at = [this.at[0] - (dx * ratio) / this.scale, this.at[1] + (dy * ratio) / this.scale];
  }

  /** Points that are on the canvas, at most `limit`. */
  visible(limit = Infinity) {
    const { x, y, canvas } = this;
    const found = [];
    for (let i = 0; i < x.length && found.length <= limit; i++) {
      const [left, top] = this.project(x[i], y[i]);
      if (left >= 0 && top >= 0 && left < canvas.width && top < canvas.height) found.push(i);
    }
    return found.length > limit ? null : found;
  }

  /** The point next to a place in CSS pixels, if it is within `reach` of it. */
  nearest(left, top, reach = 12) {
    const [px, py] = this.locate(left, top);
    let best = (reach * this.canvas.width) / this.canvas.clientWidth / this.scale;
    let found = null;
    for (let i = 0; i < this.x.length; i++) {
      const distance = Math.hypot(this.x[i] - px, this.y[i] - py);
      if (distance < best) [best, found] = [distance, i];
    }
    return found;
  }

  /** Points within a closed line of [x, y] on the plane. */
  within(line) {
    const inside = (px, py) => {
      let odd = false;
      for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
        const [[ax, ay], [bx, by]] = [line[i], line[j]];
        if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) odd = !odd;
      }
      return odd;
    };
    return [...this.x.keys()].filter((i) => inside(this.x[i], this.y[i]));
  }

  draw(colours, strong) {
    const { canvas, pen, x, y, kind, scale, at, chosen } = this;
    const { width, height } = canvas;
    const image = pen.createImageData(width, height);
    const pixels = image.data;
    const ratio = width / canvas.clientWidth;
    const spots = disc(ratio * Math.max(1.5, Math.min(5, (220 / Math.sqrt(x.length)) * Math.sqrt(this.zoom) * 0.4)));
    const put = (i, [red, green, blue], alpha) => {
      const left = Math.round(width / 2 + (x[i] - at[0]) * scale);
      const top = Math.round(height / 2 - (y[i] - at[1]) * scale);
      if (left < -8 || top < -8 || left > width + 8 || top > height + 8) return;
      for (const [dx, dy, cover] of spots) {
        const [px, py] = [left + dx, top + dy];
        if (px < 0 || py < 0 || px >= width || py >= height) continue;
        const o = 4 * (py * width + px);
        const a = cover * alpha;
        const below = (pixels[o + 3] / 255) * (1 - a);
        const whole = a + below;
        pixels[o] = (red * a + pixels[o] * below) / whole;
        pixels[o + 1] = (green * a + pixels[o + 1] * below) / whole;
        pixels[o + 2] = (blue * a + pixels[o + 2] * below) / whole;
        pixels[o + 3] = 255 * whole;
      }
    };
    const is_choosing = chosen.size > 0;
    for (let i = 0; i < x.length; i++) if (!chosen.has(i)) put(i, colours[kind[i]], is_choosing ? 0.25 : 0.85);
    for (const i of chosen) put(i, strong, 1);
    pen.putImageData(image, 0, 0);
  }
}
