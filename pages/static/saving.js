// Autosave. Every change goes at once into the browser's own store, and a moment later to the server; the draft in the
// browser is removed when the server has the same. A draft names the revision that it was made from, so that an old tab
// cannot take the place of newer work: then the person is asked.

import { ask, explain, Refused } from "./api.js";
import { fromRuns, toBase64, toRuns } from "./codec.js";

const DELAY = 400; // milliseconds from a change to its save
const AGAIN = 2500; // milliseconds until a failed save is tried again
const TAB = Math.random().toString(36).slice(2);
const KEEPALIVE = 60000; // bytes that a browser sends after a tab is closed

export class Saver {
  /**
   * @param project identity and resolution of the folder
   * @param on {status(text, kind), saved(listed), conflict(labels, newest)}
   */
  constructor(project, on) {
    this.project = project;
    this.on = on;
    this.waiting = new Map(); // name -> labels that are not on the server yet
    this.timer = 0;
    this.pushing = null; // the promise of what is being sent
  }

  /** Labels changed. */
  changed(labels) {
    this.waiting.set(labels.name, labels);
    const kept = this.keepDraft(labels);
    this.on.status(kept ? "Saving …" : "Saving … (this browser keeps no copy)", "busy");
    this.later(DELAY);
  }

  later(delay) {
    this.timer ||= setTimeout(() => this.push(), delay);
  }

  /** Send what waits now; resolves when the server has it, or has refused it. */
  async flush() {
    await this.pushing;
    await this.push();
  }

  /** Send what waits, one image after another; a second call waits for the first. */
  push() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.pushing ??= this.pushAll().finally(() => (this.pushing = null));
    return this.pushing;
  }

  async pushAll() {
    let problem = null;
    for (const labels of [...this.waiting.values()]) {
      try {
        await this.send(labels);
      } catch (error) {
        problem = error;
        if (!(error instanceof Refused)) break; // no server: the others cannot be sent either
      }
    }
    if (problem) {
      this.on.status(`Not saved. ${explain(problem)} Your work is kept in this browser.`, "bad");
      if (!(problem instanceof Refused) || problem.status >= 500) this.later(AGAIN); // a full disk may be emptied
    } else if (this.waiting.size) {
      this.later(DELAY);
    } else {
      this.on.status("Saved", "good");
    }
  }

  async send(labels) {
    const { version } = labels;
    const before = labels.sent;
    labels.sent = body(labels);
    try {
      this.acknowledged(labels, version, await ask("PUT", `samples/${labels.name}`, labels.sent));
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 409) throw error;
      const { newest } = error.body;
      if (before && sameText(before, newest)) {
        labels.revision = newest.revision; // our own, of which the answer was lost
        return;
      }
      this.waiting.delete(labels.name);
      this.on.conflict(labels, newest);
      throw error;
    }
  }

  acknowledged(labels, version, listed) {
    labels.revision = listed.revision;
    labels.savedVersion = version;
    if (labels.version === version) {
      this.waiting.delete(labels.name);
      this.dropDraft(labels.name);
    } else {
      this.keepDraft(labels);
    }
    this.on.saved(listed);
  }

  /** The tab may be closed next: send what waits without waiting for an answer. */
  lastChance() {
    for (const labels of this.waiting.values()) {
      labels.sent = body(labels);
      if (JSON.stringify(labels.sent).length < KEEPALIVE) {
        ask("PUT", `samples/${labels.name}`, labels.sent, { keepalive: true }).catch(() => {});
      }
    }
  }

  key(name) {
    return `ganfoundry:${this.project.id}:${name}`;
  }

  keepDraft(labels) {
    const { revision, keypoints, done } = labels;
    const draft = { tab: TAB, revision, runs: toRuns(labels.mask), keypoints, done };
    try {
      localStorage.setItem(this.key(labels.name), JSON.stringify(draft));
      return true;
    } catch {
      return false; // full or switched off
    }
  }

  dropDraft(name) {
    const draft = this.read(name);
    if (draft && draft.tab === TAB) localStorage.removeItem(this.key(name));
  }

  /** Forget what this browser keeps of an image, whichever tab wrote it. */
  forget(name) {
    localStorage.removeItem(this.key(name));
  }

  /** What this browser keeps of an image that the server may not have; null when there is nothing. */
  draft(name) {
    const draft = this.read(name);
    if (!draft) return null;
    const { resolution } = this.project;
    return { ...draft, mask: fromRuns(draft.runs, resolution * resolution) };
  }

  read(name) {
    try {
      return JSON.parse(localStorage.getItem(this.key(name)));
    } catch {
      return null;
    }
  }
}

function body(labels) {
  const { revision, keypoints, done } = labels;
  return { revision, mask: toBase64(labels.mask), keypoints, done };
}

/** Whether two bodies hold the same labels, of whatever revision. */
function sameText(a, b) {
  return a.mask === b.mask && a.done === b.done && JSON.stringify(a.keypoints) === JSON.stringify(b.keypoints);
}

/** Whether a draft holds the same labels as a sample. */
export function sameLabels(a, b) {
  return (
    a.done === b.done &&
    JSON.stringify(a.keypoints) === JSON.stringify(b.keypoints) &&
    a.mask.length === b.mask.length &&
    a.mask.every((value, i) => value === b.mask[i])
  );
}
