// Two versions side by side: documents key by key, weights by layer.
import * as api from "./api.js";
import { html, Loaded, number, Table, useLoaded } from "./view.js";

export function DiffPage({ name, before, after }) {
  const diff = useLoaded((signal) => api.diff(name, after, before, signal), [name, before, after]);
  return html`
    <p class="trail"><a href="#/registry">Registry</a> / <a href=${`#/registry/${name}`}>${name}</a></p>
    <h1>${name}: ${before} → ${after}</h1>
    <${Loaded} loaded=${diff}>${(found) => html`<${Diff} diff=${found} />`}<//>
  `;
}

function Diff({ diff: { before, after, weights, ...documents } }) {
  const changed = Object.entries(documents).filter(([, changes]) => changes.length);
  return html`
    ${changed.length === 0 && html`<p>Nothing but the weights differs.</p>`}
    ${changed.map(
      ([name, changes]) => html`<${Table} caption=${name} head=${["key", "before", "after"]}
        rows=${changes.map((change) => [change.key, text(change.before), text(change.after)])} />`,
    )}
    ${weights ? html`<${Weights} weights=${weights} />` : html`<p>The bases have other shapes: no weights to compare.</p>`}
  `;
}

const text = (value) => (value === null || value === undefined ? "–" : html`<code>${JSON.stringify(value)}</code>`);

function Weights({ weights }) {
  return html`<${Table} caption="Weight updates by layer" head=${["layer", "cosine", "direction", "norm before", "norm after"]}
    rows=${weights.layers.map((layer) => [
      layer.layer,
      number(layer.cosine, 3),
      html`<meter min="-1" max="1" value=${layer.cosine ?? 0} aria-label=${`Cosine in layer ${layer.layer}`}></meter>`,
      number(layer.norm_before, 4),
      number(layer.norm_after, 4),
    ])} />`;
}
