// The labels of one image while they are edited: mask, keypoints, the mark "done", and what undo needs.

const DEEPEST = 200; // steps that undo remembers

export class Labels {
  constructor(sample, side) {
    this.name = sample.name;
    this.side = side;
    this.revision = sample.revision;
    this.mask = sample.mask;
    this.keypoints = sample.keypoints;
    this.done = sample.done;
    this.version = 0; // counts changes; what is saved is compared with it
    this.savedVersion = 0;
    this.sent = null; // what was last sent to the server
    this.past = [];
    this.future = [];
    this.before = null;
  }

  get unsaved() {
    return this.version !== this.savedVersion;
  }

  /** Start a step; everything changed until `commit` is undone together. */
  begin() {
    this.before = { mask: this.mask.slice(), keypoints: this.keypoints.map((point) => [...point]) };
  }

  /** End the step; false when it changed nothing. */
  commit() {
    const { before } = this;
    this.before = null;
    if (!before) return false;
    const patch = difference(before.mask, this.mask, this.side);
    const moved = JSON.stringify(before.keypoints) !== JSON.stringify(this.keypoints);
    if (!patch && !moved) return false;
    const after = moved ? this.keypoints.map((point) => [...point]) : null;
    this.past.push({ patch, points: moved ? { before: before.keypoints, after } : null });
    if (this.past.length > DEEPEST) this.past.shift();
    this.future = [];
    this.version++;
    return true;
  }

  /** Drop the step, as if it had not begun. */
  cancel() {
    if (!this.before) return;
    this.mask.set(this.before.mask);
    this.keypoints = this.before.keypoints;
    this.before = null;
  }

  undo() {
    return this.step(this.past, this.future, "before");
  }

  redo() {
    return this.step(this.future, this.past, "after");
  }

  step(from, to, which) {
    const step = from.pop();
    if (!step) return false;
    const { patch, points } = step;
    if (patch) {
      for (let row = 0; row < patch.height; row++) {
        const line = patch[which].subarray(row * patch.width, (row + 1) * patch.width);
        this.mask.set(line, (patch.top + row) * this.side + patch.left);
      }
    }
    if (points) this.keypoints = points[which].map((point) => [...point]);
    to.push(step);
    this.version++;
    return true;
  }
}

/** The smallest rectangle that holds every pixel that differs, with both contents; null when none does. */
function difference(before, after, side) {
  let [left, top, right, bottom] = [side, side, -1, -1];
  for (let i = 0; i < before.length; i++) {
    if (before[i] !== after[i]) {
      const x = i % side;
      const y = (i - x) / side;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  if (right < 0) return null;
  const [width, height] = [right - left + 1, bottom - top + 1];
  const cut = (map) => {
    const piece = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = (top + row) * side + left;
      piece.set(map.subarray(start, start + width), row * width);
    }
    return piece;
  };
  return { left, top, width, height, before: cut(before), after: cut(after) };
}
