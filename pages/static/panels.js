// The lists beside the picture: parts, keypoints, images.

const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

/** A name of the schema for reading. */
export const words = (name) => name.replaceAll("_", " ");
const VISIBILITY = ["not placed", "hidden", "visible"];
const SIGNS = ["–", "○", "●"];

/** Parts with their colours; `choose(id)` when one is clicked. */
export class PartList {
  constructor(list, search, parts, choose) {
    this.list = list;
    this.search = search;
    this.rows = parts.map(({ name, colour }, id) => {
      const row = element("button", "row");
      row.type = "button";
      const swatch = element("span", "swatch");
      swatch.style.backgroundColor = `rgb(${colour.join(" ")})`;
      row.append(swatch, element("span", "number", id), element("span", "name", words(name)));
      row.dataset.name = `${words(name)} ${name}`.toLowerCase();
      row.addEventListener("click", () => choose(id));
      list.append(row);
      return row;
    });
    search.addEventListener("input", () => this.filter());
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        const first = this.rows.findIndex((row) => !row.hidden);
        if (first >= 0) choose(first);
      }
      if (event.key === "Enter" || event.key === "Escape") {
        search.value = "";
        this.filter();
        search.blur();
        event.preventDefault();
      }
      event.stopPropagation();
    });
  }

  filter() {
    const wanted = this.search.value.trim().toLowerCase();
    for (const row of this.rows) row.hidden = !row.dataset.name.includes(wanted);
  }

  show(chosen) {
    this.rows.forEach((row, id) => row.setAttribute("aria-pressed", id === chosen));
    this.rows[chosen].scrollIntoView({ block: "nearest" });
  }
}

/** Keypoints and whether each is placed; `choose(index)` when one is clicked, `toggle(index)` for its sign. */
export class PointList {
  constructor(list, names, choose, toggle) {
    this.rows = names.map((name, index) => {
      const row = element("div", "row pair");
      const sign = element("button", "sign");
      sign.type = "button";
      sign.addEventListener("click", () => toggle(index));
      const label = element("button", "name", words(name));
      label.type = "button";
      label.addEventListener("click", () => choose(index));
      row.append(sign, label);
      list.append(row);
      return { row, sign, label };
    });
    this.names = names;
  }

  show(keypoints, chosen) {
    this.rows.forEach(({ row, sign, label }, index) => {
      const visibility = keypoints[index]?.[2] ?? 0;
      sign.textContent = SIGNS[visibility];
      sign.setAttribute("aria-label", `${words(this.names[index])}: ${VISIBILITY[visibility]}`);
      sign.title = VISIBILITY[visibility];
      label.setAttribute("aria-pressed", index === chosen);
      row.classList.toggle("chosen", index === chosen);
      if (index === chosen) row.scrollIntoView({ block: "nearest" });
    });
  }
}

/** Images with thumbnails and marks; `open(name)` when one is clicked. */
export class SampleList {
  constructor(list, progress, samples, open) {
    this.progress = progress;
    this.samples = new Map(samples.map((sample) => [sample.name, sample]));
    this.rows = new Map();
    for (const { name } of samples) {
      const row = element("button", "sample");
      row.type = "button";
      const picture = element("img");
      picture.alt = "";
      picture.width = picture.height = 64;
      picture.loading = "lazy";
      const text = element("span", "name", name);
      row.append(picture, text, element("span", "mark"));
      row.addEventListener("click", () => open(name));
      list.append(row);
      this.rows.set(name, row);
      this.update(this.samples.get(name));
    }
  }

  /** Show what the server said of an image. */
  update(listed) {
    this.samples.set(listed.name, listed);
    const row = this.rows.get(listed.name);
    const [picture, , mark] = row.children;
    const address = `api/thumbnails/${listed.name}.png?revision=${listed.revision}`;
    if (picture.getAttribute("src") !== address) picture.src = address;
    const state = [listed.done && "done", listed.corrected && "corrected"].filter(Boolean);
    mark.textContent = listed.done ? "✓" : listed.corrected ? "·" : "";
    row.classList.toggle("done", listed.done);
    row.setAttribute("aria-label", [listed.name, ...state].join(", "));
    row.title = state.length ? state.join(", ") : "not looked at yet";
    const all = [...this.samples.values()];
    const done = all.filter((sample) => sample.done).length;
    this.progress.textContent = `${done} of ${all.length} done`;
  }

  show(chosen) {
    for (const [name, row] of this.rows) {
      row.setAttribute("aria-current", name === chosen);
      if (name === chosen) row.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }
}
