// What the engine holds and does now: slots, KV blocks, queue, tokens a second, comings and goings.
import { useRef, useState } from "preact/hooks";
import * as api from "./api.js";
import { Sparkline } from "./sparkline.js";
import { html, number, Problem, short, Table, useTicking } from "./view.js";

const EVERY = 1; // seconds
const REMEMBERED = 120; // samples

export function MachinePage() {
  const [samples, setSamples] = useState([]);
  const [error, setError] = useState(null);
  const latest = useRef([]);
  useTicking(async () => {
    try {
      const state = await api.machine();
      latest.current = [...latest.current, { at: performance.now(), ...state }].slice(-REMEMBERED);
      setSamples(latest.current);
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, EVERY);
  const now = samples.at(-1);
  return html`<h1>Machine</h1>
    <${Problem} error=${error} />
    ${now ? html`<${State} now=${now} samples=${samples} />` : !error && html`<p class="quiet">Loading…</p>`}`;
}

function State({ now, samples }) {
  const rates = samples.slice(1).map((sample, index) => rate(samples[index], sample));
  const { kv, queue, slots } = now;
  const taken = slots.resident.filter((adapter) => adapter.level === "slot").length;
  return html`
    ${now.warnings.map((warning) => html`<p class="problem" role="status">${warning}</p>`)}
    <p>Base <code>${now.base}</code>, ${number(now.max_context)} tokens of context.</p>
    <div class="cards">
      <${Card} title="Tokens a second" value=${number(rates.at(-1)?.total ?? 0, 1)}>
        <${Sparkline} values=${rates.map((each) => each.total)} label="Tokens a second, the last two minutes" />
      <//>
      <${Card} title="Sequences" value=${`${queue.running} running`}>
        <p class="quiet">${queue.waiting} waiting, room for ${queue.limit}</p>
      <//>
      <${Card} title="KV blocks" value=${`${number(100 * kv.usage, 1)} %`}>
        <meter min="0" max="1" high="0.9" value=${kv.usage}
          aria-label="KV blocks in use">${number(100 * kv.usage)} %</meter>
        <p class="quiet">${number(kv.free)} of ${number(kv.blocks)} free, ${kv.block_size} tokens each</p>
      <//>
      <${Card} title="Slots" value=${`${taken} of ${slots.total}`}>
        <meter min="0" max=${slots.total} value=${taken} aria-label="Slots taken">${taken}</meter>
        <p class="quiet">${now.counters.adapter_loads} loads, ${now.counters.adapter_evictions} evictions</p>
      <//>
    </div>
    <${Residents} now=${now} rates=${rates.at(-1)?.adapters ?? {}} />
    <${Table} caption="Comings and goings" head=${["when", "adapter", "what"]}
      rows=${now.moves.toReversed().map((move) => [
        new Date(move.at * 1000).toLocaleTimeString(),
        move.adapter,
        MOVES[move.kind],
      ])}
      empty="No adapter has come or gone yet." />
  `;
}

const MOVES = { host: "read into host memory", slot: "put into a slot", out: "left its slot" };

const Card = ({ title, value, children }) =>
  html`<section class="card"><h2>${title}</h2><p class="figure">${value}</p>${children}</section>`;

function Residents({ now, rates }) {
  const base = [now.base, "always", "", "", "", number(rates[now.base] ?? 0, 1)];
  const rows = now.slots.resident.map((adapter) => [
    html`${adapter.label} <span class="quiet">${short(adapter.digest)}</span>`,
    adapter.level === "slot" ? "slot" : "host memory",
    adapter.rank,
    adapter.pinned ? "yes" : "no",
    adapter.running,
    number(rates[adapter.label] ?? 0, 1),
  ]);
  const loading = now.slots.loading.map((label) => [label, "on its way", "", "", "", ""]);
  return html`<${Table} caption="Who is here" head=${["adapter", "where", "rank", "pinned", "running", "tok/s"]}
    rows=${[base, ...rows, ...loading]} />`;
}

/** Tokens a second between two samples, in all and by adapter. */
function rate(before, after) {
  const seconds = (after.at - before.at) / 1000;
  const adapters = {};
  for (const [label, tokens] of Object.entries(after.tokens))
    adapters[label] = Math.max(0, tokens - (before.tokens[label] ?? 0)) / seconds;
  const generated = after.counters.generated_tokens - before.counters.generated_tokens;
  return { total: Math.max(0, generated) / seconds, adapters }; // a restarted server counts anew
}
