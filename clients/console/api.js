// The server's HTTP API and the registry's, as functions. Every failure is a Refused.
import { keyOf } from "./keys.js";
import { readEvents } from "./events.js";

const root = new URL(".", document.baseURI);

export class Refused extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status; // 0: nobody answered
    this.code = code;
  }
}

/** One request; returns the Response if it is good. */
async function send(whose, path, { method = "GET", body, headers = {}, signal } = {}) {
  const key = keyOf(whose);
  const request = {
    method,
    signal,
    headers: {
      ...(key && { authorization: `Bearer ${key}` }),
      ...(body && { "content-type": "application/json" }),
      ...headers,
    },
    body: body && JSON.stringify(body),
  };
  let reply;
  try {
    reply = await fetch(new URL(path, root), request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
  if (!reply.ok) throw await refusal(reply, whose);
  return reply;
}

async function refusal(reply, whose) {
  const said = await reply.json().then((body) => body.error, () => undefined);
  const message = said?.message ?? `The server answered ${reply.status}.`;
  if (reply.status === 401) dispatchEvent(new CustomEvent("key-needed", { detail: whose }));
  return new Refused(message, reply.status, said?.code);
}

const json = (whose, path, options) => send(whose, path, options).then((reply) => reply.json());

// ---- inference ----

export const models = (signal) =>
  json("server", "v1/models", { signal }).then((body) => body.data);

export const machine = (signal) => json("server", "debug/state", { signal });

/** Ask; yields {adapter, digest} once, then {text}, {usage} and {finish} as they come. */
export async function* chat(body, signal) {
  const reply = await send("server", "v1/chat/completions", {
    method: "POST",
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    signal,
  });
  yield {
    adapter: decodeURIComponent(reply.headers.get("x-hatstand-adapter") ?? ""),
    digest: reply.headers.get("x-hatstand-digest") ?? "",
  };
  for await (const data of readEvents(reply.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message, 200, chunk.error.code);
    if (chunk.usage) yield { usage: chunk.usage };
    const choice = chunk.choices[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
  }
  throw new Refused("The stream broke off.", 0);
}

// ---- registry ----

const part = encodeURIComponent;
const one = (name, ref) => `registry/adapters/${part(name)}/versions/${part(ref)}`;
const alias = (name, which) => `registry/adapters/${part(name)}/aliases/${part(which)}`;

export function adapters({ text, tag, metric, after }, signal) {
  const query = new URLSearchParams(
    Object.entries({ text, tag, metric, after }).filter(([, value]) => value),
  );
  return json("registry", `registry/adapters?${query}`, { signal });
}

export const adapter = (name, signal) => json("registry", `registry/adapters/${part(name)}`, { signal });

export const versions = (name, signal) =>
  json("registry", `registry/adapters/${part(name)}/versions`, { signal }).then((b) => b.versions);

export const version = (name, ref, signal) => json("registry", one(name, ref), { signal });

export const referrers = (name, ref, signal) =>
  json("registry", `${one(name, ref)}/referrers`, { signal }).then((body) => body.referrers);

/** A small blob that is JSON. */
export const blob = (digest, signal) => json("registry", `registry/blobs/${digest}`, { signal });

export const lock = (name, ref, signal) => json("registry", `${one(name, ref)}/files/lock.json`, { signal });

export const file = (name, ref, path, signal) =>
  send("registry", `${one(name, ref)}/files/${part(path)}`, { signal });

export const diff = (name, ref, against, signal) =>
  json("registry", `${one(name, ref)}/diff?against=${part(against)}`, { signal });

export const history = (name, which, signal) =>
  json("registry", `${alias(name, which)}/history`, { signal }).then((body) => body.events);

/** Back to where the alias pointed before, if it still points at `digest`. */
export const rollBack = (name, which, digest, why) =>
  json("registry", `${alias(name, which)}/rollback`, {
    method: "POST",
    body: { why },
    headers: { "if-match": `"${digest}"`, "x-hatstand-by": "console" },
  });
