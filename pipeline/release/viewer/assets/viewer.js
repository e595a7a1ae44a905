// The viewer of a release. `data.json` says what there is; tiles are read by `TileArchive` (pmtiles.js).
"use strict";

const at = (id) => document.getElementById(id);
const state = { data: null, map: null, adcode: null, before: null, beside: false };

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function tell(text) {
  at("trouble").textContent = text;
  at("trouble").hidden = false;
  document.body.dataset.state = "trouble";
}

const km2 = (m2) => (m2 / 1e6).toLocaleString("en", { minimumFractionDigits: m2 < 1e7 ? 2 : 0, maximumFractionDigits: m2 < 1e7 ? 2 : 0 });
const plain = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f'’\s-]/g, "").toLowerCase();

async function start() {
  if (location.protocol === "file:") {
    tell("Browsers let no page read files from a disk. Serve the folder of the release: run “python -m http.server” in it, then open http://localhost:8000/viewer/");
    return;
  }
  try {
    const answer = await fetch("data.json");
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    state.data = await answer.json();
  } catch (error) {
    tell(`data.json cannot be read (${error.message}). Unpack the viewer whole and serve it again.`);
    return;
  }
  showHead();
  showRegions();
  showCities();
  listen();
  showFiles();
  if (!hasWebGL()) {
    tell("This browser has no WebGL, so there is no map. Search, figures and files work; the polygons are in the files.");
    at("map").hidden = true;
    return;
  }
  await showMap();
}

function hasWebGL() {
  try {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  } catch {
    return false;
  }
}

function showHead() {
  const d = state.data;
  document.title = `${d.title}, ${d.version}`;
  at("title").textContent = d.title;
  at("summary").textContent = `Version ${d.version}: ${d.villages.toLocaleString("en")} villages, ${km2(d.area_m2)} km², ${d.cities.length} cities.`;
  at("notes").textContent = d.notes;
}

function showRegions() {
  const choice = at("region");
  choice.append(make("option", `All of the nation (${state.data.cities.length})`, { value: "" }));
  for (const region of state.data.regions) {
    choice.append(make("option", `${region.name} (${region.cities})`, { value: region.name }));
  }
}

function chosen() {
  const text = plain(at("search").value), region = at("region").value;
  return state.data.cities.filter((city) =>
    (!region || city.region === region) &&
    (!text || [city.name_en, city.name_zh, city.adcode, city.province].some((name) => plain(name).includes(text))));
}

function showCities() {
  const list = at("cities"), cities = chosen();
  list.replaceChildren(...cities.map((city) => {
    const button = make("button", null, { type: "button", "data-adcode": city.adcode });
    if (city.adcode === state.adcode) button.setAttribute("aria-current", "true");
    const name = make("span", `${city.name_en} `);
    name.append(make("span", city.name_zh, { lang: "zh" }));
    button.append(name, make("span", `${city.villages.toLocaleString("en")}`, { class: "count", title: "villages" }));
    button.addEventListener("click", () => openCity(city));
    const item = make("li");
    item.append(button);
    return item;
  }));
  at("found").textContent = cities.length ? `${cities.length} ${cities.length === 1 ? "city" : "cities"}, with the number of villages` : "No city of this release has such a name.";
}

function listen() {
  at("search").addEventListener("input", showCities);
  at("search").addEventListener("keydown", (event) => {
    const first = at("cities").querySelector("button");
    if (event.key === "ArrowDown" && first) { event.preventDefault(); first.focus(); }
    if (event.key === "Enter" && first) { event.preventDefault(); first.click(); }
  });
  at("cities").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const item = document.activeElement.closest("li");
    const next = event.key === "ArrowDown" ? item?.nextElementSibling : item?.previousElementSibling;
    (next?.querySelector("button") ?? (event.key === "ArrowUp" ? at("search") : document.activeElement)).focus();
  });
  at("region").addEventListener("change", () => { showCities(); openRegion(at("region").value); });
  at("close").addEventListener("click", closeDetail);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (!at("detail").hidden) closeDetail();
    else if (at("search").value) { at("search").value = ""; showCities(); at("search").focus(); }
  });
}

function showDetail(title, facts, region) {
  at("detail-title").textContent = title;
  at("facts").replaceChildren(...facts.flatMap(([name, value, hint]) =>
    [make("dt", name, hint ? { title: hint } : {}), value instanceof Node ? wrapped(value) : make("dd", value)]));
  showAccuracy(region);
  if (at("detail").hidden) state.before = document.activeElement;
  at("detail").hidden = false;
  if (matchMedia("(max-width: 46rem)").matches) at("detail").scrollIntoView({ block: "start" });
}

function wrapped(node) {
  const value = make("dd");
  value.append(node);
  return value;
}

function fileLink(name) {
  return state.beside ? make("a", name, { href: `../${name}`, download: "" }) : make("span", name);
}

function closeDetail() {
  at("detail").hidden = true;
  state.map?.setFilter("chosen", ["==", ["get", "uv_id"], ""]);
  (state.before?.isConnected ? state.before : at("search")).focus();
}

function showAccuracy(region) {
  const { accuracy } = state.data, box = at("accuracy");
  const own = accuracy.regions[region];
  const rows = own ?? accuracy.whole;
  at("accuracy-title").textContent = own ? `Accuracy in ${region}` : "Accuracy";
  box.replaceChildren();
  if (rows.length) {
    const table = make("table"), head = make("thead"), names = make("tr");
    names.append(...["Measure", "Estimate", "Interval"].map((name) => make("th", name, { scope: "col" })));
    head.append(names);
    table.append(head);
    for (const row of rows) {
      const line = make("tr");
      const interval = row.low === null ? "" : `${row.low.toFixed(2)} to ${row.high.toFixed(2)}`;
      line.append(make("th", row.name, { scope: "row" }), make("td", row.estimate.toFixed(3)), make("td", interval));
      table.append(line);
    }
    box.append(table);
  }
  box.append(make("p", own || !region ? accuracy.note : `${accuracy.note} ${accuracy.no_region}`, { class: "small" }));
}

function openRegion(name) {
  const region = state.data.regions.find((r) => r.name === name);
  const of = region ?? state.data;
  fly(of.bounds);
  if (!region) { if (!at("detail").hidden) closeDetail(); return; }
  showDetail(region.name, [["Cities", String(region.cities)], ["Villages", region.villages.toLocaleString("en")], ["Area", `${km2(region.area_m2)} km²`]], region.name);
}

function openCity(city) {
  state.adcode = city.adcode;
  showDetail(`${city.name_en} ${city.name_zh}`, [
    ["Code", city.adcode], ["Province", city.province], ["Region", city.region],
    ["Villages", city.villages.toLocaleString("en")], ["Area of villages", `${km2(city.area_m2)} km²`],
    ["Not predicted", `${(100 * city.not_predicted).toFixed(1)} % of the ground`],
    ["Imagery", city.image_date ?? "date unknown"], ["Archive", fileLink(city.archive)],
  ], city.region);
  for (const button of at("cities").querySelectorAll("button")) {
    if (button.dataset.adcode === city.adcode) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  state.before = at("cities").querySelector(`[data-adcode="${city.adcode}"]`) ?? at("search");
  fly(city.bounds);
}

function openVillage(properties) {
  const city = state.data.cities.find((c) => c.adcode === String(properties.adcode));
  const facts = state.data.attributes.filter((a) => properties[a.name] !== undefined && properties[a.name] !== null)
    .map((a) => [a.label, `${format(properties[a.name])}${a.unit ? ` ${a.unit}` : ""}`, `${a.name}: ${a.meaning}`]);
  state.map?.setFilter("chosen", ["==", ["get", "uv_id"], properties.uv_id]);
  showDetail(`Village in ${city ? `${city.name_en} ${city.name_zh}` : properties.adcode}`, facts, city?.region);
}

const format = (value) => typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 3 : 0 }) : String(value);

function fly(bounds) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  state.map?.fitBounds(bounds, { padding: 40, maxZoom: 16, animate: !still, duration: 600 });
}

async function showFiles() {
  try {
    const answer = await fetch("../release.json");
    state.beside = answer.ok;
    const doi = state.beside ? (await answer.json()).doi : null;
    if (doi) at("notes").append(make("br"), make("a", `doi.org/${doi}`, { href: `https://doi.org/${doi}` }));
  } catch { /* the viewer stands alone */ }
  at("files").replaceChildren(...state.data.files.map((file) => {
    const item = make("li");
    const size = file.bytes < 1e6 ? `${Math.ceil(file.bytes / 1e3)} kB` : `${(file.bytes / 1e6).toFixed(1)} MB`;
    item.append(fileLink(file.name), make("span", ` ${size}, ${file.licence}`, { class: "small" }));
    return item;
  }));
  if (!state.beside) at("files").prepend(make("li", "This viewer stands apart from its release: the files are where the release is published.", { class: "small" }));
}

async function findTiles() {
  let last = null;
  for (const url of state.data.tiles) {
    const archive = new TileArchive(url);
    try { return [archive, await archive.header()]; } catch (error) { last = error; }
  }
  throw last;
}

async function showMap() {
  let archive, head;
  try { [archive, head] = await findTiles(); } catch (error) {
    tell(`The tiles cannot be read (${error.message}). Put ${state.data.tiles.at(-1).split("/").pop()} beside the folder of the viewer.`);
    at("map").hidden = true;
    return;
  }
  state.archive = archive;
  maplibregl.addProtocol("uv", async ({ url }) => {
    const [z, x, y] = url.slice(5).split("/").map(Number);
    return { data: (await archive.tile(z, x, y)) ?? new ArrayBuffer(0) };
  });
  const cities = { type: "FeatureCollection", features: state.data.cities.map((city) => ({
    type: "Feature", properties: { adcode: city.adcode, villages: city.villages },
    geometry: { type: "Point", coordinates: city.point } })) };
  const largest = Math.max(1, ...state.data.cities.map((city) => Math.sqrt(city.villages)));
  const extents = { type: "FeatureCollection", features: state.data.cities.map(({ bounds: [[w, s], [e, n]] }) => ({
    type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [[[w, s], [e, s], [e, n], [w, n], [w, s]]] } })) };
  const sources = {
    villages: { type: "vector", tiles: ["uv://{z}/{x}/{y}"], minzoom: head.minZoom, maxzoom: head.maxZoom, bounds: head.bounds },
    cities: { type: "geojson", data: cities }, extents: { type: "geojson", data: extents },
  };
  const pictures = state.data.imagery.map((picture, k) => {
    sources[`imagery-${k}`] = { type: "image", url: picture.file, coordinates: picture.corners };
    return { id: `imagery-${k}`, type: "raster", source: `imagery-${k}`, paint: { "raster-fade-duration": 0 } };
  });
  const map = state.map = new maplibregl.Map({
    container: "map", bounds: state.data.bounds, fitBoundsOptions: { padding: 40 }, attributionControl: false, maxZoom: 19,
    style: { version: 8, sources, layers: [
      { id: "ground", type: "background", paint: { "background-color": "#eef1f4" } },
      ...pictures,
      { id: "extents", type: "line", source: "extents", paint: { "line-color": "#7b8794", "line-dasharray": [3, 2] } },
      { id: "villages", type: "fill", source: "villages", "source-layer": state.data.layer, paint: { "fill-color": "#b3175c", "fill-opacity": ["interpolate", ["linear"], ["zoom"], 8, 0.9, 14, 0.4] } },
      { id: "outlines", type: "line", source: "villages", "source-layer": state.data.layer, minzoom: 9, paint: { "line-color": "#b3175c", "line-width": ["interpolate", ["linear"], ["zoom"], 9, 0.6, 16, 2] } },
      { id: "chosen", type: "line", source: "villages", "source-layer": state.data.layer, filter: ["==", ["get", "uv_id"], ""], paint: { "line-color": "#ffd400", "line-width": 4 } },
      { id: "cities", type: "circle", source: "cities", maxzoom: 10, paint: { "circle-radius": ["interpolate", ["linear"], ["sqrt", ["get", "villages"]], 0, 3, largest, state.data.cities.length > 40 ? 7 : 9], "circle-color": "#0b4f8a", "circle-opacity": 0.75, "circle-stroke-color": "#fff", "circle-stroke-width": 1.5 } },
    ] },
  });
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
  map.addControl(new maplibregl.ScaleControl({ maxWidth: 120 }), "top-left");
  map.addControl(new maplibregl.AttributionControl({ compact: true, customAttribution: state.data.attribution }), "bottom-left");
  state.labels = new CityLabels(map, state.data.cities);
  const canvas = map.getCanvas();
  canvas.setAttribute("aria-label", "Map: arrow keys move, plus and minus zoom, Enter opens the village in the middle");
  const pick = (point, reach) => {
    const box = [[point.x - reach, point.y - reach], [point.x + reach, point.y + reach]];
    const [city] = map.getZoom() < 10 ? map.queryRenderedFeatures(box, { layers: ["cities"] }) : [];
    if (city) return openCity(state.data.cities.find((c) => c.adcode === city.properties.adcode));
    const [village] = map.queryRenderedFeatures(box, { layers: ["villages"] });
    if (village) openVillage(village.properties);
  };
  map.on("click", (event) => pick(event.point, 4));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter") pick(map.project(map.getCenter()), 24);
  });
  for (const layer of ["villages", "cities"]) {
    map.on("mouseenter", layer, () => { canvas.style.cursor = "pointer"; });
    map.on("mouseleave", layer, () => { canvas.style.cursor = ""; });
  }
  map.on("error", (event) => tell(`The map says: ${event.error?.message ?? "unknown trouble"}`));
  map.on("idle", () => { if (document.body.dataset.state !== "trouble") document.body.dataset.state = "ready"; });
  globalThis.uvmapViewer = state;
}

start();
