// Draws a plotly figure that the server describes: on a phone in its phone layout, in the page's
// colours, and with every point leading to its cases. plotly.js comes from this server and only
// once a figure is on the screen.

import { drawing } from "./drawing.js";

let loading;

function plotly(root) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("rad3d/static/plotly.js", root).href;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = undefined;
      reject(new Error("The figures could not be loaded."));
    };
    document.head.append(script);
  });
  return loading;
}

const CONFIG = { displayModeBar: false, responsive: false, doubleClick: false, scrollZoom: false };

class Figure {
  constructor(host, { props, watch, trigger, root }) {
    Object.assign(this, { host, props, trigger, root, width: 0, turns: 0 });
    host.innerHTML = `
      <header><div><h3></h3><p></p></div><span class="r3-actions">
        <button type="button" data-format="png">PNG</button>
        <button type="button" data-format="svg">SVG</button></span></header>
      <div class="r3-plot" role="img"></div>`;
    this.plot = host.querySelector(".r3-plot");
    host.addEventListener("click", ({ target }) => {
      const format = target.closest("[data-format]")?.dataset.format;
      if (format && this.drawn) this.save(format);
    });
    watch("value", () => this.draw());
    new ResizeObserver(() => {
      if (this.plot.clientWidth && this.plot.clientWidth !== this.width) this.draw();
    }).observe(this.plot);
    new MutationObserver(() => this.draw()).observe(document.body, { attributeFilter: ["class"] });
    this.draw();
  }

  async draw() {
    const figure = this.props.value;
    this.host.hidden = !figure?.plot;
    if (!figure?.plot) return;
    this.host.querySelector("h3").textContent = figure.title;
    this.host.querySelector("p").textContent = figure.note;
    this.plot.setAttribute("aria-label", `${figure.title}. ${figure.note}`);
    this.plot.style.minHeight = `${figure.plot.layout.height}px`;
    if (!this.plot.clientWidth) return; // in a tab that is not open: drawn when it is
    const turn = ++this.turns; // not the value's identity, which changes with any property
    try {
      const Plotly = await plotly(this.root);
      if (turn !== this.turns || !this.plot.isConnected) return;
      this.width = this.plot.clientWidth;
      const { data, layout } = drawing(figure.plot, this.narrow, this.look);
      this.plot.style.minHeight = `${layout.height}px`;
      await Plotly.react(this.plot, data, layout, CONFIG);
      if (!this.drawn) this.plot.on("plotly_click", (event) => this.choose(event));
      this.drawn = true;
    } catch (error) {
      this.plot.textContent = `${error.message} Reload the page.`;
    }
  }

  get narrow() {
    return this.width < this.props.narrow_px;
  }

  get look() {
    const style = getComputedStyle(this.host);
    const color = (name) => style.getPropertyValue(name).trim();
    return {
      width: this.width,
      font: { color: color("--r3-ink") },
      paper_bgcolor: color("--r3-surface"),
      hoverlabel: {
        bgcolor: color("--r3-sunken"),
        bordercolor: color("--r3-line"),
        font: { color: color("--r3-ink") },
      },
    };
  }

  choose(event) {
    const [system, set, label] = event.points[0]?.customdata ?? [];
    if (system) this.trigger("select", { system, set, label });
  }

  async save(format) {
    const Plotly = await plotly(this.root);
    const { name } = this.props.value;
    await Plotly.downloadImage(this.plot, { format, scale: 2, filename: name });
  }
}

export function mount(element, props, watch, trigger, root) {
  element.figure = new Figure(element.querySelector(".r3-figure"), { props, watch, trigger, root });
}
