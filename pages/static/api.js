// Requests to the server that served this page; every address is relative to the token's.

export class Refused extends Error {
  constructor(status, body) {
    super(body.error || `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** Send a request; resolves to the answer's JSON, rejects with Refused, or TypeError when there is no server. */
export async function ask(method, path, body, options = {}) {
  const request = { method, ...options };
  if (body !== undefined) {
    request.headers = { "Content-Type": "application/json" };
    request.body = JSON.stringify(body);
  }
  const answer = await fetch(`api/${path}`, request);
  const table = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, table);
  return table;
}

/** One sentence for a person about a request that failed. */
export function explain(error) {
  if (error instanceof Refused) {
    if (error.status === 403) return "The server was started again: open the address that it printed.";
    return sentence(error.message);
  }
  return "The server has stopped: start the command again and open the address that it prints.";
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");
}
