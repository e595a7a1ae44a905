// Names of cities over the map, as text of the page: MapLibre draws text from fonts on a server, which there is none of.
// The largest come first; a name that would cover another is left out.
"use strict";

class CityLabels {
  constructor(map, cities, { most = 60, untilZoom = 10 } = {}) {
    this.map = map;
    this.cities = [...cities].sort((a, b) => b.villages - a.villages || (a.adcode < b.adcode ? -1 : 1));
    this.most = most;
    this.untilZoom = untilZoom;
    this.box = document.createElement("div");
    this.box.className = "labels";
    this.box.setAttribute("aria-hidden", "true"); // the list says the same
    map.getContainer().append(this.box);
    this.sizes = new Map();
    map.on("move", () => this.draw());
    map.on("resize", () => this.draw());
    this.draw();
  }

  draw() {
    if (this.map.getZoom() > this.untilZoom) { this.box.replaceChildren(); return; }
    const { clientWidth: width, clientHeight: height } = this.map.getContainer();
    const placed = [], shown = [];
    for (const city of this.cities) {
      if (placed.length >= this.most) break;
      const { x, y } = this.map.project(city.point);
      if (x < 0 || y < 0 || x > width || y > height) continue;
      const element = this.element(city);
      const [w, h] = this.sizes.get(city.adcode) ?? this.measure(city, element);
      const left = x + 10 + w > width ? x - 10 - w : x + 10;
      const spot = [left, y - h / 2, left + w, y + h / 2];
      if (placed.some((p) => spot[0] < p[2] && p[0] < spot[2] && spot[1] < p[3] && p[1] < spot[3])) continue;
      element.style.transform = `translate(${Math.round(spot[0])}px, ${Math.round(spot[1])}px)`;
      placed.push(spot);
      shown.push(element);
    }
    this.box.replaceChildren(...shown);
  }

  element(city) {
    const label = document.createElement("span");
    const chinese = document.createElement("span");
    chinese.lang = "zh";
    chinese.textContent = city.name_zh;
    label.append(`${city.name_en} `, chinese);
    return label;
  }

  measure(city, element) {
    this.box.append(element);
    const size = [element.offsetWidth, element.offsetHeight];
    this.sizes.set(city.adcode, size);
    return size;
  }
}
