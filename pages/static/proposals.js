// Pre-labels shown beside the picture, to take over and mend; and the training of an interpreter from what is labelled.

import { ask, explain } from "./api.js";
import { fromBase64 } from "./codec.js";
import { agreement } from "./labelmap.js";

const TITLES = {
  trained: "Trained on these labels",
  interpreter: "Interpreter of the run",
  annotator: "Annotator network",
};
const POLL = 500;

export class Proposals {
  /**
   * @param parts elements: source (select), beside, take, train, stop, bar, text
   * @param editor {labels, compare (View), showCompare(bool), take(mask, keypoints), fail(text)}
   */
  constructor(parts, editor) {
    Object.assign(this, parts);
    this.editor = editor;
    this.shown = false;
    this.current = null;
    this.training = { state: "none" };
    this.beside.addEventListener("click", () => this.toggle());
    this.take.addEventListener("click", () => this.takeOver());
    this.train.addEventListener("click", () => this.start());
    this.stop.addEventListener("click", () => this.halt());
    this.source.addEventListener("change", () => this.toggle(true));
  }

  /** What the server can propose with, and how far a training is. */
  update({ sources, training }) {
    const chosen = this.source.value;
    this.source.replaceChildren(...sources.map((name) => new Option(TITLES[name], name)));
    if (sources.includes(chosen)) this.source.value = chosen;
    for (const button of [this.beside, this.take, this.source]) button.disabled = !sources.length;
    this.report(training);
    if (training.state === "running") this.poll();
  }

  report(training) {
    this.training = training;
    const running = training.state === "running";
    this.train.hidden = running;
    this.stop.hidden = this.bar.hidden = !running;
    this.bar.max = training.steps;
    this.bar.value = training.step;
    const images = training.samples === 1 ? "1 image" : `${training.samples} images`;
    this.text.textContent = {
      none: "",
      running: `Training on ${images}: step ${training.step} of ${training.steps}`,
      done: `Trained on ${images}.`,
      stopped: "Training stopped.",
      failed: `Training failed: ${training.message}`,
    }[training.state];
  }

  async start() {
    try {
      await this.editor.saver.flush();
      const { sources, ...training } = await ask("POST", "training", {});
      this.update({ sources, training });
    } catch (error) {
      this.editor.fail(explain(error));
    }
  }

  async halt() {
    await ask("DELETE", "training").catch((error) => this.editor.fail(explain(error)));
  }

  poll() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        const { sources, ...training } = await ask("GET", "training");
        const done = training.state === "done";
        this.update({ sources, training });
        if (done) {
          this.source.value = "trained";
          await this.toggle(true);
        }
      } catch (error) {
        this.text.textContent = explain(error);
      }
    }, POLL);
  }

  /** Show or hide the proposal beside the picture. */
  async toggle(shown = !this.shown) {
    this.shown = shown && this.source.options.length > 0;
    this.beside.setAttribute("aria-pressed", this.shown);
    this.editor.showCompare(this.shown);
    if (this.shown) await this.refresh();
  }

  /** Fetch the proposal for the image that is open. */
  async refresh() {
    const { labels } = this.editor;
    if (!this.shown || !labels) return;
    this.editor.caption.textContent = "One moment …";
    delete this.editor.caption.dataset.agreement;
    try {
      const found = await this.fetch(labels.name);
      if (this.editor.labels !== labels) return; // another image was opened meanwhile
      this.current = found;
      this.editor.compare.mask = found.mask;
      this.editor.compare.keypoints = found.keypoints ?? [];
      this.editor.compare.recolour();
      this.compareNow();
    } catch (error) {
      this.editor.fail(explain(error));
    }
  }

  async fetch(name) {
    const { mask, keypoints } = await ask("GET", `proposals/${this.source.value}/${name}`);
    return { name, mask: fromBase64(mask), keypoints };
  }

  /** Say how far the labels and the proposal agree. */
  compareNow() {
    const { labels, caption } = this.editor;
    if (!this.shown || this.current?.name !== labels?.name) return;
    const share = (100 * agreement(labels.mask, this.current.mask)).toFixed(1);
    caption.textContent = `${TITLES[this.source.value]}: the same in ${share} % of the labelled pixels`;
    caption.dataset.agreement = share;
  }

  /** Make the proposal the image's labels; it can be undone. */
  async takeOver() {
    const { labels } = this.editor;
    if (!labels || !this.source.options.length) return;
    try {
      const found = this.shown && this.current?.name === labels.name ? this.current : await this.fetch(labels.name);
      if (this.editor.labels === labels) this.editor.take(found.mask, found.keypoints);
    } catch (error) {
      this.editor.fail(explain(error));
    }
  }
}
