// What a stroke of the pointer does to the labels.

import { floodFill, paintPolygon, paintSegment } from "./labelmap.js";

const NEAR = 11; // screen pixels within which a keypoint or the first corner is meant

/**
 * The hand that `listen` of pointer.js talks to.
 * @param editor {labels, view, tool, part, size, point, choosePart, choosePoint, changed(), repaint()}
 */
export class Hand {
  constructor(editor) {
    this.editor = editor;
    this.last = null; // where the stroke was
    this.erase = false;
    this.held = -1; // keypoint being dragged
    this.placed = false; // the stroke gave a keypoint its place
    this.spaceDown = false;
  }

  get radius() {
    return this.editor.size / 2;
  }

  moving() {
    return this.spaceDown || this.editor.tool === "move";
  }

  down(point, { erase, shift }) {
    const { editor } = this;
    if (!editor.labels) return;
    if (editor.tool === "polygon") return this.corner(point);
    editor.labels.begin();
    this.erase = erase;
    if (editor.tool === "fill") return this.fill(point);
    if (editor.tool === "keypoints") return this.holdPoint(point, shift);
    this.last = point;
    this.paint(point);
  }

  move(point) {
    const { editor } = this;
    if (this.last) this.paint(point);
    if (this.held >= 0) {
      const [, , visibility] = editor.labels.keypoints[this.held];
      editor.labels.keypoints[this.held] = [...inside(point, editor.labels.side), visibility];
      editor.repaint();
    }
  }

  up() {
    this.last = null;
    this.held = -1;
    if (this.editor.labels?.before) this.editor.changed();
    if (this.placed) this.editor.choosePointToPlace();
    this.placed = false;
  }

  cancel() {
    this.last = null;
    this.held = -1;
    this.placed = false;
    this.editor.labels?.cancel();
    this.editor.repaint();
  }

  pick(point) {
    const { labels } = this.editor;
    const [column, row] = [Math.floor(point.x), Math.floor(point.y)];
    if (!labels || column < 0 || row < 0 || column >= labels.side || row >= labels.side) return;
    this.editor.choosePart(labels.mask[row * labels.side + column]);
  }

  hover(point) {
    const { tool, view } = this.editor;
    const brush = tool === "brush" || tool === "eraser";
    view.cursor = point && { ...point, radius: brush ? this.radius : 0 };
    view.redraw();
  }

  zoomed() {
    this.editor.zoomed();
  }

  paint(point) {
    const { labels, tool, part } = this.editor;
    const value = this.erase || tool === "eraser" ? 0 : part;
    paintSegment(labels.mask, labels.side, this.last, point, this.radius, value);
    this.last = point;
    this.editor.repaint();
  }

  fill(point) {
    const { labels, part } = this.editor;
    const [column, row] = [Math.floor(point.x), Math.floor(point.y)];
    const outside = column < 0 || row < 0 || column >= labels.side || row >= labels.side;
    if (!outside) floodFill(labels.mask, labels.side, column, row, this.erase ? 0 : part);
    this.editor.repaint();
  }

  corner(point) {
    const { view } = this.editor;
    const [first] = view.polygon;
    if (first && view.polygon.length > 2 && this.near(first, point)) return this.closePolygon();
    view.polygon.push(point);
    view.redraw();
  }

  closePolygon() {
    const { labels, view, part } = this.editor;
    const corners = view.polygon;
    view.polygon = [];
    if (corners.length > 2) {
      labels.begin();
      paintPolygon(labels.mask, labels.side, corners, part);
      this.editor.changed();
    }
    view.redraw();
  }

  dropCorner() {
    this.editor.view.polygon.pop();
    this.editor.view.redraw();
  }

  holdPoint(point, hidden) {
    const { editor } = this;
    const { keypoints, side } = editor.labels;
    const places = keypoints.map(([x, y, visibility]) => (visibility ? this.distance({ x, y }, point) : Infinity));
    const nearest = places.indexOf(Math.min(...places));
    if (places[nearest] <= NEAR) {
      this.held = nearest;
      editor.choosePoint(nearest);
    } else if (point.x >= 0 && point.y >= 0 && point.x <= side && point.y <= side && editor.point >= 0) {
      this.held = editor.point;
      keypoints[editor.point] = [...inside(point, side), hidden ? 1 : 2];
      this.placed = true;
    }
    editor.repaint();
  }

  distance(a, b) {
    return Math.hypot(a.x - b.x, a.y - b.y) * this.editor.view.frame.scale;
  }

  near(a, b) {
    return this.distance(a, b) <= NEAR;
  }
}

function inside({ x, y }, side) {
  const within = (value) => Math.round(Math.min(side, Math.max(0, value)) * 100) / 100;
  return [within(x), within(y)];
}
