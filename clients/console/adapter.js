// One adapter: its versions, and where its aliases point and pointed.
import { useState } from "preact/hooks";
import * as api from "./api.js";
import { bytes, html, Loaded, Problem, short, Table, useLoaded, when } from "./view.js";

export function AdapterPage({ name }) {
  const adapter = useLoaded((signal) => api.adapter(name, signal), [name]);
  const versions = useLoaded((signal) => api.versions(name, signal), [name]);
  return html`
    <p class="trail"><a href="#/registry">Registry</a></p>
    <h1>${name}</h1>
    <${Loaded} loaded=${adapter}>${({ aliases, splits, protected: kept }) => html`
      <h2>Aliases</h2>
      ${Object.entries(aliases).map(([alias, version]) => {
        const split = splits.find((each) => each.alias === alias);
        return html`<${Alias} key=${`${alias} ${version.digest} ${split?.weight}`} name=${name} alias=${alias}
          version=${version} split=${split} isProtected=${kept.includes(alias)} onMoved=${adapter.reload} />`;
      })}
      ${Object.keys(aliases).length === 0 && html`<p class="quiet">None: the bare name means the newest version.</p>`}
    `}<//>
    ${!adapter.error && html`<${Loaded} loaded=${versions}>${(found) => html`<${Versions} name=${name} versions=${found} />`}<//>`}
  `;
}

function Alias({ name, alias, version, split, isProtected, onMoved }) {
  const [isOpen, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>
      <strong>${alias}</strong> → ${version.ref}
      ${split && html` <span class="tag">canary: ${split.weight}% → ${split.target.ref}</span>`}
      ${isProtected && html` <span class="tag">protected</span>`}
    </summary>
    <p><a href=${`#/registry/${name}/${version.version}`}>Look at ${version.ref}</a></p>
    ${isOpen && html`<${History} name=${name} alias=${alias} version=${version} onMoved=${onMoved} />`}
  </details>`;
}

function History({ name, alias, version, onMoved }) {
  const history = useLoaded((signal) => api.history(name, alias, signal), [name, alias]);
  return html`<${Loaded} loaded=${history}>${(events) => html`
    <${RollBack} name=${name} alias=${alias} version=${version}
      canMove=${events.some((event) => event.from_number !== null)} onMoved=${onMoved} />
    <${Table} caption=${`Where ${name}@${alias} pointed`} head=${["when", "from", "to", "share", "how", "who", "why"]}
      rows=${events.map((event) => [
        when(event.at),
        event.from_number ?? "–",
        event.to_number ?? "–",
        event.weight === null ? "–" : `${event.weight}%`,
        event.kind,
        event.by,
        event.why,
      ])} />
  `}<//>`;
}

function RollBack({ name, alias, version, canMove, onMoved }) {
  const [why, setWhy] = useState("");
  const [error, setError] = useState(null);
  if (!canMove) return null;
  const move = async (event) => {
    event.preventDefault();
    try {
      await api.rollBack(name, alias, version.digest, why);
      onMoved();
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<form class="rollback" onSubmit=${move}>
    <label class="grow">Why <input value=${why} required maxlength="2000" onInput=${(e) => setWhy(e.target.value)} /></label>
    <button>Roll ${alias} back</button>
    <${Problem} error=${error} />
  </form>`;
}

function Versions({ name, versions }) {
  const newestFirst = versions.toSorted((a, b) => b.version - a.version);
  return html`<${Table} caption="Versions" head=${["version", "digest", "size", "pushed", "by", "changes"]}
    rows=${newestFirst.map((version, index) => [
      html`<a href=${`#/registry/${name}/${version.version}`}>${version.ref}</a>`,
      html`<code>${short(version.digest)}</code>`,
      bytes(version.size),
      when(version.created_at),
      version.created_by,
      newestFirst[index + 1] &&
        html`<a href=${`#/registry/${name}/${version.version}/diff/${newestFirst[index + 1].version}`}>what changed</a>`,
    ])} />`;
}
