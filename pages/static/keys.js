// The keyboard. Digits choose a part by its number (two digits typed quickly make one number), "/" searches.

const TOOLS = { b: "brush", e: "eraser", l: "polygon", f: "fill", k: "keypoints", m: "move" };
const DIGITS_TOGETHER = 700; // milliseconds

export function listenToKeys(editor) {
  let digits = "";
  let typed = 0;

  const chooseByDigit = (digit) => {
    const now = performance.now();
    digits = now - typed < DIGITS_TOGETHER ? digits + digit : digit;
    typed = now;
    if (Number(digits) >= editor.project.parts.length) digits = digit;
    if (Number(digits) < editor.project.parts.length) editor.choosePart(Number(digits));
  };

  const actions = {
    z: () => editor.undo(),
    y: () => editor.redo(),
    n: () => editor.step(1),
    p: () => editor.step(-1),
    d: () => editor.toggleDone(),
    h: () => editor.toggleVisible(),
    c: () => editor.proposals.toggle(),
    t: () => editor.proposals.takeOver(),
    r: () => editor.fit(),
    "[": () => editor.stepSize(-1),
    "]": () => editor.stepSize(1),
    "+": () => editor.zoom(1.4),
    "=": () => editor.zoom(1.4),
    "-": () => editor.zoom(1 / 1.4),
    ",": () => editor.setOpacity(editor.view.opacity - 0.1),
    ".": () => editor.setOpacity(editor.view.opacity + 0.1),
    "?": () => document.getElementById("keys").showModal(),
    "/": () => document.getElementById("search").focus(),
    Enter: () => editor.hand.closePolygon(),
    Escape: () => {
      editor.view.polygon = [];
      editor.hand.cancel();
    },
    Delete: () => editor.deletePoint(),
    Backspace: () => (editor.view.polygon.length ? editor.hand.dropCorner() : editor.deletePoint()),
  };

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.target.matches("input[type=search], select")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") (event.shiftKey ? editor.redo() : editor.undo());
      else if (key === "y") editor.redo();
      else return;
    } else if (event.altKey) {
      return;
    } else if (key === " " && !event.target.matches("button")) {
      editor.hand.spaceDown = true;
    } else if (key === "Enter" && event.target.matches("button")) {
      return;
    } else if (/^\d$/.test(key)) {
      chooseByDigit(key);
    } else if (TOOLS[key]) {
      editor.chooseTool(TOOLS[key]);
    } else if (actions[key]) {
      actions[key]();
    } else {
      return;
    }
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") editor.hand.spaceDown = false;
  });
}
