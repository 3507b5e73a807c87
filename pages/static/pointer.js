// Mouse, pen and touch as strokes in image pixels: one finger or button works with the tool, the middle button, the
// space bar or two fingers move the picture, the wheel or two fingers magnify it.

const ERASER_BUTTONS = 32; // the far end of a pen

/**
 * Listen on a canvas.
 * @param view what is shown there
 * @param hand {moving() -> bool, down(point, event), move(point, event), up(point, event), cancel(), pick(point),
 *              hover(point or null), zoomed()}
 */
export function listen(view, hand) {
  const { canvas, frame } = view;
  const touching = new Map(); // pointer -> {x, y} on the canvas
  let stroke = null; // pointer that works with the tool
  let dragging = null; // pointer that moves the picture

  const onScreen = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const inImage = (event) => {
    const { x, y } = onScreen(event);
    return frame.toImage(x, y);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    touching.set(event.pointerId, onScreen(event));
    if (touching.size > 1) {
      if (stroke !== null) hand.cancel();
      stroke = null;
    } else if (event.button === 1 || (event.button === 0 && hand.moving())) {
      dragging = event.pointerId;
    } else if (event.button === 2 || event.altKey) {
      hand.pick(inImage(event));
    } else {
      stroke = event.pointerId;
      hand.down(inImage(event), { erase: Boolean(event.buttons & ERASER_BUTTONS), shift: event.shiftKey });
    }
    event.preventDefault();
  });

  canvas.addEventListener("pointermove", (event) => {
    hand.hover(inImage(event));
    const before = touching.get(event.pointerId);
    if (!before) return;
    const now = onScreen(event);
    touching.set(event.pointerId, now);
    if (touching.size === 2) {
      pinch(event.pointerId, before, now);
    } else if (event.pointerId === dragging) {
      frame.x += now.x - before.x;
      frame.y += now.y - before.y;
      hand.zoomed();
    } else if (event.pointerId === stroke) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) hand.move(inImage(step));
    }
  });

  function pinch(id, before, now) {
    const [other] = [...touching].filter(([key]) => key !== id).map(([, place]) => place);
    const span = (a) => Math.hypot(a.x - other.x, a.y - other.y);
    const middle = (a) => ({ x: (a.x + other.x) / 2, y: (a.y + other.y) / 2 });
    frame.x += middle(now).x - middle(before).x;
    frame.y += middle(now).y - middle(before).y;
    frame.zoom(span(now) / Math.max(1, span(before)), middle(now).x, middle(now).y);
    hand.zoomed();
  }

  const release = (event) => {
    touching.delete(event.pointerId);
    if (event.pointerId === dragging) dragging = null;
    if (event.pointerId !== stroke) return;
    stroke = null;
    if (event.type === "pointercancel") hand.cancel();
    else hand.up(inImage(event));
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => hand.hover(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      const { x, y } = onScreen(event);
      frame.zoom(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 60) * 0.004), x, y);
      hand.zoomed();
      event.preventDefault();
    },
    { passive: false },
  );
}
