// The page for viewpoint codes: one key for each code.

import { ask, explain } from "./api.js";
import { Compass } from "./compass.js";

const $ = (id) => document.getElementById(id);
const KEYS = "0123456789abcdefghijklmnopqrstuvw";
const CONTENTS = 8;
const DROP = -1;

class Answers {
  constructor(project) {
    this.keys = [...KEYS].slice(0, project.bins.length);
    this.sending = Promise.resolve();
    this.compass = new Compass($("compass"), project.bins, this.keys, (number) => this.answer(number));
    this.buttons = project.codes.map(({ id, shape }, number) => {
      if (shape && number % project.views === 0) {
        const title = document.createElement("p");
        title.textContent = shape;
        $("codes").append(title);
      }
      const button = document.createElement("button");
      button.type = "button";
      button.addEventListener("click", () => this.open(id));
      $("codes").append(button);
      return button;
    });
    $("previous").addEventListener("click", () => this.open(this.current - 1));
    $("next").addEventListener("click", () => this.open(this.current + 1));
    $("agree").addEventListener("click", () => this.agree());
    $("drop").addEventListener("click", () => this.answer(DROP));
    $("back").addEventListener("click", () => this.back());
    document.addEventListener("keydown", (event) => this.key(event));
    this.show(project);
    const first = project.codes.findIndex(({ answer }) => answer === null);
    this.open(Math.max(0, first));
  }

  get code() {
    return this.project.codes[this.current];
  }

  show(project) {
    this.project = project;
    const { views } = project; // a dropped code takes its counterparts of the other shapes with it
    const dropped = new Set(project.codes.filter(({ answer }) => answer === DROP).map(({ id }) => id % views));
    const answered = project.codes.filter(({ id, answer }) => answer !== null || dropped.has(id % views)).length;
    $("progress").textContent = `${answered} of ${project.codes.length} codes`;
    $("bar").max = project.codes.length;
    $("bar").value = answered;
    $("missing").hidden = !project.missing.length;
    $("missing").textContent = `Not written while a bin has no code: ${project.missing.join("; ")}`;
    project.codes.forEach(({ id, bin, answer }, number) => {
      const gone = dropped.has(id % views);
      const said = gone ? "dropped" : answer === null ? "not answered" : answer === bin ? "agreed" : "changed";
      const button = this.buttons[number];
      const shown = answer ?? bin;
      button.textContent = `${id}: ${gone ? "–" : this.keys[shown].toUpperCase()}`;
      button.dataset.said = said;
      button.setAttribute("aria-label", gone ? `Code ${id}, dropped` : `Code ${id}, bin ${shown}, ${said}`);
    });
  }

  open(number) {
    this.current = Math.min(this.project.codes.length - 1, Math.max(0, number));
    const { id, shape, azimuth, azimuth_std: spread, elevation, how } = this.code;
    $("name").textContent = `code ${id}`;
    const facts = [shape, `proposed azimuth ${azimuth.toFixed(0)} ± ${spread.toFixed(1)}°`];
    $("facts").textContent = [...facts, `elevation ${elevation.toFixed(0)}°`, how].filter(Boolean).join(" · ");
    $("row").replaceChildren(...pictures(id));
    if (this.current + 1 < this.project.codes.length) pictures(this.project.codes[this.current + 1].id); // ahead
    this.buttons.forEach((button, place) => {
      button.setAttribute("aria-current", place === this.current);
      if (place === this.current) button.scrollIntoView({ block: "nearest" });
    });
    this.frame();
  }

  frame() {
    const { bin, answer } = this.code;
    this.compass.show(answer === null || answer === DROP ? bin : answer, answer);
    $("drop").setAttribute("aria-pressed", answer === DROP);
  }

  agree() {
    const { bin, answer } = this.code;
    this.answer(answer === null || answer === DROP ? bin : answer);
  }

  /** Take an answer, send it, go on to the next code. Answers are sent in the order in which they were given. */
  answer(k, then = this.current + 1) {
    const { id } = this.code;
    this.code.answer = k;
    this.show(this.project);
    this.open(then);
    this.sending = this.sending.then(() => this.send(id, k));
  }

  async send(id, k) {
    try {
      const project = await ask("PUT", `codes/${id}`, { bin: k });
      const local = this.project.codes.map(({ answer }) => answer);
      project.codes.forEach((code, place) => (code.answer = local[place])); // later keys may be on their way
      this.show(project);
      this.frame();
      $("status").textContent = project.missing.length ? "" : "Saved";
      $("status").dataset.kind = "good";
    } catch (error) {
      $("status").textContent = `Code ${id} is not saved. ${explain(error)}`;
      $("status").dataset.kind = "bad";
      const code = this.project.codes[id];
      code.answer = null;
      this.show(this.project);
      this.frame();
    }
  }

  back() {
    if (this.current > 0) this.open(this.current - 1);
    if (this.code.answer !== null) this.answer(null, this.current);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const bin = this.keys.indexOf(key);
    if (bin >= 0) this.answer(bin);
    else if (key === "Enter" || key === " ") this.agree();
    else if (key === "x") this.answer(DROP);
    else if (key === "z" || key === "Backspace") this.back();
    else if (key === "ArrowLeft") this.open(this.current - 1);
    else if (key === "ArrowRight") this.open(this.current + 1);
    else return;
    event.preventDefault();
  }
}

function pictures(code) {
  return Array.from({ length: CONTENTS }, (_, content) => {
    const image = new Image();
    image.src = `api/rows/${code}/${content}.png`;
    image.alt = "";
    return image;
  });
}

async function start() {
  try {
    const project = await ask("GET", "project");
    $("title").textContent = project.title.split(/[\\/]/).slice(-2).join("/");
    $("title").title = project.title;
    new Answers(project);
  } catch (error) {
    $("status").textContent = explain(error);
    $("status").dataset.kind = "bad";
  }
}

start();
