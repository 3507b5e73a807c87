// Draws an image, the label map over it and the keypoints, magnified without smoothing.

const MARGIN = 12;

/** How image pixels lie on the screen; shared by the views that stand side by side. */
export class Frame {
  constructor() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
  }

  fit(side, width, height) {
    this.scale = Math.max(0.05, Math.min(width - 2 * MARGIN, height - 2 * MARGIN) / side);
    this.x = (width - side * this.scale) / 2;
    this.y = (height - side * this.scale) / 2;
  }

  /** Magnify about a point of the screen. */
  zoom(factor, x, y) {
    const scale = Math.min(64, Math.max(0.1, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
  }

  toImage(x, y) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  toScreen(x, y) {
    return { x: this.x + x * this.scale, y: this.y + y * this.scale };
  }
}

export class View {
  constructor(canvas, frame, side, palette) {
    this.canvas = canvas;
    this.frame = frame;
    this.side = side;
    this.palette = palette;
    this.image = null;
    this.mask = null;
    this.keypoints = [];
    this.selected = -1;
    this.names = [];
    this.showPoints = false;
    this.opacity = 0.5;
    this.polygon = [];
    this.cursor = null; // {x, y, radius} in image pixels
    this.layer = document.createElement("canvas");
    this.layer.width = this.layer.height = side;
    this.pixels = new ImageData(side, side);
    this.waiting = false; // for the next frame
    this.stale = false; // the label map has changed since it was coloured
  }

  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  /** Colour the label map again before it is drawn next. */
  recolour() {
    this.stale = true;
    this.redraw();
  }

  colour() {
    this.stale = false;
    const { data } = this.pixels;
    for (let i = 0; i < this.mask.length; i++) {
      const part = this.mask[i];
      const [red, green, blue] = this.palette[part];
      data[4 * i] = red;
      data[4 * i + 1] = green;
      data[4 * i + 2] = blue;
      data[4 * i + 3] = part ? 255 : 0;
    }
    this.layer.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const { canvas, frame, side } = this;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.size;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    Object.assign(canvas.dataset, { scale: frame.scale, x: frame.x, y: frame.y });
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.imageSmoothingEnabled = frame.scale * ratio < 1;
    const extent = side * frame.scale;
    if (this.image) pen.drawImage(this.image, frame.x, frame.y, extent, extent);
    if (this.mask) {
      if (this.stale) this.colour();
      pen.globalAlpha = this.opacity;
      pen.drawImage(this.layer, frame.x, frame.y, extent, extent);
      pen.globalAlpha = 1;
    }
    this.drawPolygon(pen);
    if (this.showPoints) this.keypoints.forEach((point, index) => this.drawPoint(pen, point, index));
    this.drawCursor(pen);
  }

  drawPolygon(pen) {
    if (!this.polygon.length) return;
    pen.beginPath();
    for (const corner of this.polygon) {
      const { x, y } = this.frame.toScreen(corner.x, corner.y);
      pen.lineTo(x, y);
    }
    if (this.cursor) {
      const { x, y } = this.frame.toScreen(this.cursor.x, this.cursor.y);
      pen.lineTo(x, y);
    }
    outline(pen);
    for (const corner of this.polygon) {
      const { x, y } = this.frame.toScreen(corner.x, corner.y);
      pen.fillStyle = "#fff";
      pen.fillRect(x - 2.5, y - 2.5, 5, 5);
    }
  }

  drawPoint(pen, [px, py, visibility], index) {
    if (!visibility) return;
    const { x, y } = this.frame.toScreen(px, py);
    const chosen = index === this.selected;
    pen.beginPath();
    pen.arc(x, y, chosen ? 6 : 4, 0, 2 * Math.PI);
    pen.fillStyle = visibility === 2 ? (chosen ? "#ffd75e" : "#fff") : "rgba(0, 0, 0, 0.35)";
    pen.fill();
    pen.lineWidth = 3.5;
    pen.strokeStyle = "#000";
    pen.stroke();
    pen.lineWidth = 1.5;
    pen.strokeStyle = chosen ? "#ffd75e" : "#fff";
    pen.stroke();
    if (chosen) {
      pen.font = "12px system-ui, sans-serif";
      pen.lineWidth = 3;
      pen.strokeStyle = "#000";
      pen.strokeText(this.names[index], x + 10, y - 8);
      pen.fillStyle = "#ffd75e";
      pen.fillText(this.names[index], x + 10, y - 8);
    }
  }

  drawCursor(pen) {
    if (!this.cursor || !this.cursor.radius) return;
    const { x, y } = this.frame.toScreen(this.cursor.x, this.cursor.y);
    pen.beginPath();
    pen.arc(x, y, Math.max(1.5, this.cursor.radius * this.frame.scale), 0, 2 * Math.PI);
    outline(pen);
  }
}

function outline(pen) {
  pen.lineWidth = 3;
  pen.strokeStyle = "rgba(0, 0, 0, 0.6)";
  pen.stroke();
  pen.lineWidth = 1;
  pen.strokeStyle = "#fff";
  pen.stroke();
}
