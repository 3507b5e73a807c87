// The azimuth bins as arrows around an object seen from above, its front towards the reader: the camera at azimuth 0
// stands below and sees the front, the one at 90 stands on the right and sees the object's left side.

const SVG = "http://www.w3.org/2000/svg";
const RING = 82;
const TIP = 40;

function shape(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

export class Compass {
  /** @param keys one key for each bin; choose(number) when an arrow is clicked */
  constructor(svg, bins, keys, choose) {
    shape("rect", { x: -15, y: -29, width: 30, height: 58, rx: 7, class: "body" }, svg);
    shape("rect", { x: -11, y: 4, width: 22, height: 9, rx: 2, class: "glass" }, svg);
    shape("rect", { x: -11, y: -24, width: 22, height: 5, rx: 2, class: "glass" }, svg);
    shape("text", { x: 0, y: 24, class: "front" }, svg).textContent = "front";
    this.arrows = bins.map(({ number, azimuth }) => {
      const angle = (azimuth * Math.PI) / 180;
      const [x, y] = [Math.sin(angle), Math.cos(angle)];
      const arrow = shape("g", { class: "arrow", role: "button", tabindex: "-1" }, svg);
      arrow.setAttribute("aria-label", `Bin ${number}, azimuth ${azimuth} degrees, key ${keys[number]}`);
      const side = 5;
      const points = [
        [TIP * x, TIP * y],
        [(TIP + 12) * x + side * y, (TIP + 12) * y - side * x],
        [(TIP + 12) * x - side * y, (TIP + 12) * y + side * x],
      ];
      const from = { x1: (TIP + 11) * x, y1: (TIP + 11) * y, x2: (RING - 10) * x, y2: (RING - 10) * y };
      shape("line", from, arrow);
      shape("polygon", { points: points.map((point) => point.join(",")).join(" ") }, arrow);
      shape("circle", { cx: RING * x, cy: RING * y, r: 12 }, arrow);
      shape("text", { x: RING * x, y: RING * y }, arrow).textContent = keys[number].toUpperCase();
      arrow.addEventListener("click", () => choose(number));
      return arrow;
    });
  }

  /** Frame the bin that Enter takes, and fill the one that was answered. */
  show(framed, answered) {
    this.arrows.forEach((arrow, number) => {
      arrow.classList.toggle("framed", number === framed);
      arrow.setAttribute("aria-pressed", number === answered);
    });
  }
}
