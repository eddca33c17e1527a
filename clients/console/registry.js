// The registry: a list of adapters, one adapter with its aliases, one version, two versions.
import { useState } from "preact/hooks";
import * as api from "./api.js";
import { AdapterPage } from "./adapter.js";
import { DiffPage } from "./diff.js";
import { VersionPage } from "./version.js";
import { html, Loaded, number, Table, useLoaded, when } from "./view.js";

/** #/registry, #/registry/NAME, #/registry/NAME/REF, #/registry/NAME/REF/diff/AGAINST */
export function RegistryPage({ path: [name, ref, , against] }) {
  if (against) return html`<${DiffPage} name=${name} before=${against} after=${ref} />`;
  if (ref) return html`<${VersionPage} name=${name} reference=${ref} />`;
  if (name) return html`<${AdapterPage} name=${name} />`;
  return html`<${AdapterList} />`;
}

function AdapterList() {
  const [search, setSearch] = useState({});
  const keep = (event) => {
    event.preventDefault();
    setSearch(Object.fromEntries(new FormData(event.target)));
  };
  return html`<h1>Registry</h1>
    <form class="search" role="search" onSubmit=${keep}>
      <label>Name <input name="text" maxlength="63" /></label>
      <label>Tag <input name="tag" placeholder="task=sql" /></label>
      <label>Metric <input name="metric" placeholder="exact_match>=0.9" /></label>
      <button>Search</button>
    </form>
    <${Page} key=${JSON.stringify(search)} search=${search} />`;
}

/** One page, and the way to the next. */
function Page({ search }) {
  const [after, setAfter] = useState("");
  const page = useLoaded((signal) => api.adapters({ ...search, after }, signal), [after]);
  if (page.error?.code === "not_found")
    return html`<p>This server follows a registry elsewhere: <code>registry list --registry URL</code> looks into it.</p>`;
  return html`<${Loaded} loaded=${page}>${({ adapters, next }) => html`
    <${Table} caption="Adapters" head=${["adapter", "versions", "newest", "aliases", "pushed"]}
      rows=${adapters.map((adapter) => [
        html`<a href=${`#/registry/${adapter.name}`}>${adapter.name}</a>`,
        number(adapter.num_versions),
        html`<a href=${`#/registry/${adapter.name}/${adapter.newest.version}`}>${adapter.newest.ref}</a>`,
        Object.entries(adapter.aliases).map(([alias, version]) => html`<span class="tag">${alias} → ${version}</span>`),
        when(adapter.newest.created_at),
      ])}
      empty="No adapter here fits. registry push FOLDER NAME makes one." />
    ${after && html`<button class="plain" onClick=${() => setAfter("")}>First page</button>`}
    ${next && html`<button class="plain" onClick=${() => setAfter(next)}>Next page</button>`}
  `}<//>`;
}
