// Label maps as text: base64 for the server, run lengths for the browser's own store.

export function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** [value, count, value, count, ...] */
export function toRuns(map) {
  const runs = [];
  for (let i = 0; i < map.length; ) {
    let end = i;
    while (end < map.length && map[end] === map[i]) end++;
    runs.push(map[i], end - i);
    i = end;
  }
  return runs;
}

export function fromRuns(runs, length) {
  const map = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    map.fill(runs[i], at, at + runs[i + 1]);
    at += runs[i + 1];
  }
  return map;
}
