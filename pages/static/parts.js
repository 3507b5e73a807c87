// The page for parts and keypoints: what is open, what is chosen, and the wiring between picture, lists and server.

import { ask, explain } from "./api.js";
import { Frame, View } from "./canvas.js";
import { fromBase64 } from "./codec.js";
import { listenToKeys } from "./keys.js";
import { Labels } from "./labels.js";
import { PartList, PointList, SampleList, words } from "./panels.js";
import { listen } from "./pointer.js";
import { Proposals } from "./proposals.js";
import { sameLabels, Saver } from "./saving.js";
import { Hand } from "./tools.js";

const $ = (id) => document.getElementById(id);
const SIZES = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128];

class Editor {
  constructor(project) {
    this.project = project;
    this.names = project.samples.map(({ name }) => name);
    this.opened = new Map(); // name -> Labels, with their undo
    this.labels = null;
    this.wanted = ""; // image that was asked for last
    this.tool = "brush";
    this.part = Math.min(1, project.parts.length - 1);
    this.point = project.keypoints.length ? 0 : -1;
    this.size = Math.max(1, SIZES.findLast((size) => size <= project.resolution / 16) ?? 1);
    const palette = project.parts.map(({ colour }) => colour);
    this.frame = new Frame();
    this.view = new View($("picture"), this.frame, project.resolution, palette);
    this.compare = new View($("beside"), this.frame, project.resolution, palette);
    this.view.names = this.compare.names = project.keypoints.map(words);
    this.caption = $("caption");
    this.saver = new Saver(project, {
      status: (text, kind) => this.status(text, kind),
      saved: (listed) => this.samples.update(listed),
      conflict: (labels, newest) => this.conflict(labels, newest),
    });
    this.parts = new PartList($("parts"), $("search"), project.parts, (id) => this.choosePart(id));
    this.points = new PointList(
      $("points"), project.keypoints, (index) => this.choosePoint(index, true), (index) => this.toggleVisible(index),
    );
    this.samples = new SampleList($("samples"), $("progress"), project.samples, (name) => this.open(name));
    this.proposals = new Proposals(
      {
        source: $("source"), beside: $("show"), take: $("take"), train: $("train"), stop: $("stop"), bar: $("bar"),
        text: $("training"),
      },
      this,
    );
    this.hand = new Hand(this);
    this.wire();
  }

  wire() {
    listen(this.view, this.hand);
    listen(this.compare, { ...passive, moving: () => true, zoomed: () => this.zoomed() });
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.chooseTool(button.dataset.tool));
    }
    const actions = {
      undo: () => this.undo(), redo: () => this.redo(), fit: () => this.fit(), in: () => this.zoom(1.4),
      out: () => this.zoom(1 / 1.4), previous: () => this.step(-1), next: () => this.step(1),
      done: () => this.toggleDone(), "tab-parts": () => this.showTab("parts"),
      "tab-points": () => this.chooseTool("keypoints"), help: () => $("keys").showModal(),
    };
    for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
    $("size").max = SIZES.length - 1;
    $("size").addEventListener("input", () => this.resize(SIZES[$("size").value]));
    $("opacity").addEventListener("input", () => this.setOpacity($("opacity").value / 100));
    listenToKeys(this);
    new ResizeObserver(() => this.fit()).observe($("stage"));
    addEventListener("pagehide", () => this.saver.lastChance());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.saver.push();
    });
    this.chooseTool("brush");
    this.choosePart(this.part);
    this.resize(this.size);
    this.setOpacity(0.5);
    if (!this.project.keypoints.length) $("tab-points").hidden = true;
    this.proposals.update(this.project);
  }

  // --- images ---

  async open(name) {
    this.wanted = name;
    try {
      const labels = this.opened.get(name) ?? (await this.fetch(name));
      const image = await picture(`api/images/${name}.png`);
      if (this.wanted !== name) return; // another was asked for meanwhile
      this.opened.set(name, labels);
      this.labels = labels;
      this.view.image = this.compare.image = image;
      this.view.polygon = [];
      this.point = this.firstUnplaced();
      document.title = `${name} · labels`;
      $("name").textContent = name;
      this.samples.show(name);
      $("conflict").hidden = true;
      this.refresh();
      this.restore(labels);
      this.compare.mask = null;
      this.compare.redraw();
      await this.proposals.refresh();
    } catch (error) {
      this.fail(explain(error));
    }
  }

  async fetch(name) {
    return this.toLabels(await ask("GET", `samples/${name}`));
  }

  toLabels(sample) {
    return new Labels({ ...sample, mask: fromBase64(sample.mask) }, this.project.resolution);
  }

  /** Bring back what this browser kept when its tab was closed or the server was gone. */
  restore(labels) {
    if (labels.unsaved) return;
    const draft = this.saver.draft(labels.name);
    if (!draft) return;
    if (sameLabels(draft, labels)) this.saver.forget(labels.name);
    else if (draft.revision === labels.revision) this.takeDraft(labels, draft);
    else if (draft.revision < labels.revision) this.ask(labels, labels, draft);
  }

  takeDraft(labels, draft) {
    labels.begin();
    labels.mask.set(draft.mask);
    labels.keypoints = draft.keypoints;
    labels.commit();
    labels.done = draft.done;
    this.changed(true);
  }

  step(by) {
    const at = this.names.indexOf(this.wanted);
    const next = Math.min(this.names.length - 1, Math.max(0, at + by));
    if (next !== at) this.open(this.names[next]);
  }

  toggleDone() {
    if (!this.labels) return;
    this.labels.done = !this.labels.done;
    this.changed(true);
  }

  // --- newer work elsewhere ---

  conflict(labels, newest) {
    const theirs = this.toLabels(newest);
    const mine = { mask: labels.mask, keypoints: labels.keypoints, done: labels.done };
    this.saver.keepDraft(labels);
    this.ask(labels, theirs, mine);
  }

  /** Ask which of two versions of an image to keep; nothing is written until the person says. */
  ask(labels, theirs, mine) {
    this.status(`Not saved: there is newer work on ${labels.name}.`, "bad");
    if (this.labels?.name !== labels.name) {
      this.opened.delete(labels.name); // asked again when it is opened: the draft stays in this browser
      return;
    }
    $("conflict").hidden = false;
    $("question").textContent = `${labels.name} was changed elsewhere, in another tab or program, after this version.`;
    $("newer").onclick = () => {
      $("conflict").hidden = true;
      this.saver.forget(labels.name);
      this.opened.set(labels.name, theirs);
      this.labels = theirs;
      this.status("Saved", "good");
      this.refresh();
    };
    $("mine").onclick = () => {
      $("conflict").hidden = true;
      this.opened.set(labels.name, theirs);
      this.labels = theirs;
      this.takeDraft(theirs, { ...mine, mask: mine.mask.slice() });
    };
  }

  // --- changes ---

  /** A step has ended: record it, show it, save it. */
  changed(always = false) {
    const { labels } = this;
    const something = labels.commit();
    if (always) labels.version++;
    this.refresh();
    if (something || always) this.saver.changed(labels);
  }

  take(mask, keypoints) {
    this.labels.begin();
    this.labels.mask.set(mask);
    if (keypoints) this.labels.keypoints = keypoints.map((point) => [...point]);
    this.changed();
  }

  undo() {
    if (this.view.polygon.length) this.hand.dropCorner();
    else if (this.labels?.undo()) this.changed(true);
  }

  redo() {
    if (this.labels?.redo()) this.changed(true);
  }

  toggleVisible(index = this.point) {
    const point = this.labels?.keypoints[index];
    this.choosePoint(index);
    if (!point?.[2]) return;
    this.labels.begin();
    this.labels.keypoints[index] = [point[0], point[1], 3 - point[2]];
    this.changed();
  }

  deletePoint() {
    if (!this.labels?.keypoints[this.point]?.[2]) return;
    this.labels.begin();
    this.labels.keypoints[this.point] = [0, 0, 0];
    this.changed();
  }

  /** Choose the next keypoint that has no place, if there is one. */
  choosePointToPlace() {
    const { keypoints } = this.labels;
    const order = keypoints.map((_, i) => (this.point + 1 + i) % keypoints.length);
    this.choosePoint(order.find((index) => !keypoints[index][2]) ?? this.point);
  }

  firstUnplaced() {
    const index = this.labels.keypoints.findIndex((point) => !point[2]);
    return index >= 0 ? index : Math.min(0, this.labels.keypoints.length - 1);
  }

  // --- choices ---

  chooseTool(tool) {
    if (tool === "keypoints" && !this.project.keypoints.length) return;
    this.tool = tool;
    this.view.polygon = [];
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", button.dataset.tool === tool);
    }
    $("stage").dataset.tool = tool;
    if (tool !== "move") this.showTab(tool === "keypoints" ? "points" : "parts");
    this.view.redraw();
  }

  showTab(tab) {
    for (const name of ["parts", "points"]) {
      $(`panel-${name}`).hidden = name !== tab;
      $(`tab-${name}`).setAttribute("aria-selected", name === tab);
    }
    this.view.showPoints = this.compare.showPoints = tab === "points";
    if (tab === "parts" && this.tool === "keypoints") this.chooseTool("brush");
    this.view.redraw();
    this.compare.redraw();
  }

  choosePart(id) {
    this.part = id;
    this.parts.show(id);
    if (this.tool === "eraser" && id) this.chooseTool("brush");
  }

  choosePoint(index, fromList = false) {
    this.point = index;
    if (fromList) this.chooseTool("keypoints");
    this.repaint();
    this.points.show(this.labels?.keypoints ?? [], index);
  }

  resize(size) {
    this.size = size;
    $("size").value = SIZES.indexOf(size);
    $("size-text").textContent = `${size} px`;
    if (this.view.cursor) this.hand.hover(this.view.cursor);
  }

  stepSize(by) {
    this.resize(SIZES[Math.min(SIZES.length - 1, Math.max(0, SIZES.indexOf(this.size) + by))]);
  }

  setOpacity(opacity) {
    this.view.opacity = this.compare.opacity = Math.min(1, Math.max(0, opacity));
    $("opacity").value = Math.round(100 * this.view.opacity);
    this.view.redraw();
    this.compare.redraw();
  }

  // --- showing ---

  refresh() {
    const { labels } = this;
    $("done").setAttribute("aria-pressed", labels.done);
    $("undo").disabled = !labels.past.length;
    $("redo").disabled = !labels.future.length;
    this.points.show(labels.keypoints, this.point);
    this.repaint();
    this.proposals.compareNow();
  }

  repaint() {
    if (!this.labels) return;
    Object.assign(this.view, { mask: this.labels.mask, keypoints: this.labels.keypoints, selected: this.point });
    this.view.recolour();
  }

  showCompare(shown) {
    $("stage").classList.toggle("two", shown);
    this.fit();
  }

  fit() {
    const { width, height } = this.view.size;
    this.frame.fit(this.project.resolution, width, height);
    this.zoomed();
  }

  zoom(factor) {
    const { width, height } = this.view.size;
    this.frame.zoom(factor, width / 2, height / 2);
    this.zoomed();
  }

  zoomed() {
    this.view.redraw();
    this.compare.redraw();
  }

  status(text, kind) {
    $("status").textContent = text;
    $("status").dataset.kind = kind;
  }

  fail(text) {
    this.status(text, "bad");
  }
}

const passive = { down() {}, move() {}, up() {}, cancel() {}, pick() {}, hover() {} };

async function picture(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

async function start() {
  try {
    const project = await ask("GET", "project");
    $("title").textContent = project.title.split(/[\\/]/).slice(-2).join("/");
    $("title").title = project.title;
    const editor = new Editor(project);
    await editor.open((project.samples.find(({ done }) => !done) ?? project.samples[0]).name);
  } catch (error) {
    $("status").textContent = explain(error);
    $("status").dataset.kind = "bad";
  }
}

start();
