// One version: where it comes from, how it was trained, what it scored, what it brings along.
import { useEffect, useState } from "preact/hooks";
import * as api from "./api.js";
import { bytes, html, Loaded, number, short, Table, useLoaded, when } from "./view.js";

export function VersionPage({ name, reference }) {
  const version = useLoaded((signal) => api.version(name, reference, signal), [name, reference]);
  return html`
    <p class="trail"><a href="#/registry">Registry</a> / <a href=${`#/registry/${name}`}>${name}</a></p>
    <${Loaded} loaded=${version}>${(found) => html`<${Version} key=${found.digest} version=${found} />`}<//>
  `;
}

function Version({ version }) {
  const { name, digest } = version;
  const lock = useLoaded((signal) => api.lock(name, digest, signal), [digest]);
  const said = useLoaded((signal) => api.referrers(name, digest, signal), [digest]);
  const files = version.manifest.layers.map((layer) => ({
    title: layer.annotations["org.opencontainers.image.title"],
    ...layer,
  }));
  const has = (title) => files.some((file) => file.title === title);
  return html`
    <h1>${version.ref}</h1>
    <p class="quiet">${digest}<br />pushed ${when(version.created_at)} by ${version.created_by}, ${bytes(version.size)}</p>
    <${Loaded} loaded=${lock}>${(found) => html`<${Lock} name=${name} lock=${found} />`}<//>
    ${has("loss.png") && html`<${Plot} version=${version} />`}
    <${Loaded} loaded=${said}>${(referrers) => html`<${Referrers} referrers=${referrers} />`}<//>
    ${has("hat.json") && html`<${TextFile} version=${version} file="hat.json" title="Hat" />`}
    ${has("recipe.yaml") && html`<${TextFile} version=${version} file="recipe.yaml" title="Recipe" />`}
    ${has("README.md") && html`<${TextFile} version=${version} file="README.md" title="Card" />`}
    <${Table} caption="Files" head=${["file", "size", "digest"]}
      rows=${files.map((file) => [file.title, bytes(file.size), html`<code>${short(file.digest)}</code>`])} />
  `;
}

function Lock({ name, lock }) {
  const facts = [
    ["base", `${lock.base.name} (${short(lock.base.fingerprint)})`],
    ["rank", lock.rank],
    ["modules", lock.target_modules.join(", ")],
    ["dtype", lock.adapter_dtype],
    ["parent", lock.parent && html`<a href=${`#/registry/${name}/${lock.parent}`}>${short(lock.parent)}</a>`],
    ["imported from", lock.imported_from],
    ["source commit", lock.source_commit && short(lock.source_commit)],
    ...Object.entries(lock.data ?? {}).map(([file, digest]) => [`data ${file}`, short(digest)]),
  ].filter(([, value]) => value);
  const metrics = Object.entries(lock.metrics ?? {});
  const environment = Object.entries(lock.environment ?? {});
  return html`
    <dl class="facts">${facts.map(([term, value]) => html`<div><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>
    ${metrics.length > 0 &&
    html`<${Table} caption="Metrics at training" head=${["metric", "value"]}
      rows=${metrics.map(([metric, value]) => [metric, number(value, 4)])} />`}
    ${environment.length > 0 &&
    html`<details><summary>Environment</summary>
      <${Table} caption="Environment" head=${["package", "version"]} rows=${environment} /></details>`}
  `;
}

/** An image needs the key too, so it comes by fetch. */
function Plot({ version }) {
  const [url, setUrl] = useState("");
  const image = useLoaded(
    (signal) => api.file(version.name, version.digest, "loss.png", signal).then((reply) => reply.blob()),
    [version.digest],
  );
  useEffect(() => {
    if (!image.value) return undefined;
    const made = URL.createObjectURL(image.value);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [image.value]);
  return html`<h2>Loss</h2>${url && html`<img class="plot" src=${url} alt=${`Loss while ${version.ref} was trained`} />`}`;
}

function TextFile({ version, file, title }) {
  const [isOpen, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${title}</summary>
    ${isOpen && html`<${TextOf} version=${version} file=${file} />`}
  </details>`;
}

function TextOf({ version, file }) {
  const text = useLoaded(
    (signal) => api.file(version.name, version.digest, file, signal).then((reply) => reply.text()),
    [version.digest, file],
  );
  return html`<${Loaded} loaded=${text}>${(found) => html`<pre class="file">${found}</pre>`}<//>`;
}

function Referrers({ referrers }) {
  if (!referrers.length) return null;
  return html`<${Table} caption="Said later" head=${["what", "when", "by", "metrics"]}
    rows=${referrers.map((each) => [
      each.artifact_type,
      when(each.at),
      each.by,
      html`<${Metrics} referrer=${each} />`,
    ])} />`;
}

/** The numbers of an evaluation: the content is the blob that the manifest's one layer names. */
function Metrics({ referrer }) {
  const content = useLoaded((signal) => api.blob(referrer.manifest.layers[0].digest, signal), [referrer.digest]);
  return html`<${Loaded} loaded=${content}>${({ metrics = {} }) =>
    Object.entries(metrics).map(([metric, value]) => html`<span class="tag">${metric} ${number(value, 4)}</span>`)}<//>`;
}
