// Exact painting on a label map: a Uint8Array of side * side part ids, row by row. A pixel belongs to one part; nothing
// is blended. Pixel (column, row) has its centre at (column + 0.5, row + 0.5).

/** Paint every pixel whose centre lies within `radius` of the segment a-b, and the two pixels that hold its ends. */
export function paintSegment(map, side, a, b, radius, value) {
  const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - radius));
  const right = Math.min(side - 1, Math.ceil(Math.max(a.x, b.x) + radius));
  const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - radius));
  const bottom = Math.min(side - 1, Math.ceil(Math.max(a.y, b.y) + radius));
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = dx * dx + dy * dy;
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const x = column + 0.5 - a.x;
      const y = row + 0.5 - a.y;
      const along = length > 0 ? Math.min(1, Math.max(0, (x * dx + y * dy) / length)) : 0;
      const offX = x - along * dx;
      const offY = y - along * dy;
      if (offX * offX + offY * offY <= radius * radius) map[row * side + column] = value;
    }
  }
  for (const end of [a, b]) {
    const column = Math.floor(end.x);
    const row = Math.floor(end.y);
    if (column >= 0 && row >= 0 && column < side && row < side) map[row * side + column] = value;
  }
}

/** Paint every pixel whose centre lies inside a polygon (even-odd rule). */
export function paintPolygon(map, side, points, value) {
  for (let row = 0; row < side; row++) {
    const y = row + 0.5;
    const crossings = [];
    for (let i = 0; i < points.length; i++) {
      const a = points[i];
      const b = points[(i + 1) % points.length];
      if (a.y <= y !== b.y <= y) crossings.push(a.x + ((y - a.y) * (b.x - a.x)) / (b.y - a.y));
    }
    crossings.sort((p, q) => p - q);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const first = Math.max(0, Math.ceil(crossings[i] - 0.5));
      const last = Math.min(side - 1, Math.ceil(crossings[i + 1] - 0.5) - 1);
      for (let column = first; column <= last; column++) map[row * side + column] = value;
    }
  }
}

/** Paint the connected region (over edges) of one part that holds a pixel. */
export function floodFill(map, side, column, row, value) {
  const start = row * side + column;
  const old = map[start];
  if (old === value) return;
  const waiting = [start];
  map[start] = value;
  while (waiting.length) {
    const at = waiting.pop();
    const x = at % side;
    if (x > 0 && map[at - 1] === old) { map[at - 1] = value; waiting.push(at - 1); }
    if (x < side - 1 && map[at + 1] === old) { map[at + 1] = value; waiting.push(at + 1); }
    if (at >= side && map[at - side] === old) { map[at - side] = value; waiting.push(at - side); }
    if (at + side < map.length && map[at + side] === old) { map[at + side] = value; waiting.push(at + side); }
  }
}

/** Share of the pixels with a part in either map that have the same in both; 1 where neither has any. */
export function agreement(a, b) {
  let same = 0;
  let any = 0;
  for (let i = 0; i < a.length; i++) {
    if (a[i] || b[i]) {
      any++;
      if (a[i] === b[i]) same++;
    }
  }
  return any ? same / any : 1;
}
