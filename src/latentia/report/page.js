// Draws every figure of the page in the page's own colours, again whenever the scheme or the width changes.
"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const narrow = matchMedia("(max-width: 40rem)"); // the same limit as in page.css
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const finger = matchMedia("(pointer: coarse)");

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A copy of a figure's description, each "var(--name)" in it replaced by what the page's style sheet says now.
  function resolved(value) {
    if (typeof value === "string") {
      const variable = /^var\((--[\w-]+)\)$/.exec(value);
      return variable ? colour(variable[1]) : value;
    }
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolved(inner)]));
    }
    return value;
  }

  // `changes` laid over `base`, object by object.
  function merged(base, changes) {
    const result = { ...base };
    for (const [key, value] of Object.entries(changes)) {
      const both = [result[key], value].every((x) => x && typeof x === "object" && !Array.isArray(x));
      result[key] = both ? merged(result[key], value) : value;
    }
    return result;
  }

  function theme() {
    const axis = {
      automargin: true,
      gridcolor: colour("--grid"),
      linecolor: colour("--rule"),
      tickfont: { color: colour("--muted"), size: 12 },
      ticks: "outside", // unseen, they keep the labels off the plot
      tickcolor: "rgba(0,0,0,0)",
      title: { font: { color: colour("--muted"), size: 13 }, standoff: 10 },
      zeroline: false,
    };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
        margin: { l: 16, r: 16, t: 16, b: 16 },
        xaxis: axis,
        yaxis: axis,
        legend: { orientation: "h", xref: "container", x: 0, yref: "container", y: 1, yanchor: "top" },
        hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--accent") },
        dragmode: finger.matches ? false : "zoom", // a finger that drags is scrolling the page
      },
    };
  }

  // The buttons are named one by one: plotly.js's own choice has one that uploads the figure to a server.
  const config = {
    displaylogo: false,
    displayModeBar: finger.matches ? false : "hover",
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
    showSendToCloud: false,
    plotlyServerURL: "",
    doubleClick: finger.matches ? false : "reset", // plotly.js takes one tap for two clicks
  };

  async function draw(plot) {
    const { data, layout, narrow: changes } = plot.description;
    const shape = merged(layout, narrow.matches ? changes : {});
    const look = {
      template: theme(),
      uirevision: "keep", // zoom and hidden traces outlive a redraw
      width: plot.clientWidth,
      height: plot.clientHeight,
    };
    // How many lines the legend takes is known once it is drawn. The second time it gets the room it needs.
    for (let pass = 0; pass < 2; pass++) {
      const legend = plot.querySelector(".legend")?.getBoundingClientRect().height ?? 0;
      const margin = { ...shape.margin, t: (shape.margin?.t ?? 16) + legend };
      await Plotly.react(plot, resolved(data), resolved({ ...shape, ...look, margin }), config);
    }
  }

  function add(parent, className) {
    const element = parent.appendChild(document.createElement("div"));
    element.className = className;
    element.setAttribute("aria-hidden", "true");
    element.hidden = true;
    return element;
  }

  // A function that gives picture number `key` of a sprite, or nothing past the last one.
  function thumbnail({ source, columns, count, width, height }) {
    const picture = document.createElement("div");
    picture.className = "picture";
    const zoom = Math.max(1, Math.round(96 / Math.max(width, height)));
    Object.assign(picture.style, {
      width: `${width * zoom}px`,
      height: `${height * zoom}px`,
      backgroundImage: `url("${source}")`,
      backgroundSize: `${columns * width * zoom}px auto`,
    });
    return (key) => {
      const [column, row] = [key % columns, Math.floor(key / columns)];
      picture.style.backgroundPosition = `${-column * width * zoom}px ${-row * height * zoom}px`;
      return key < count ? [picture] : [];
    };
  }

  // A point's customdata is [key, line, line, ...]. Hovering shows these lines, below picture number `key` of the
  // sprite if there is one, and rings every point with that key: the same sample, wherever it lies in other panels.
  function link(plot, sprite) {
    const places = new Map();
    plot.description.data.forEach(({ customdata = [], x, y, xaxis = "x", yaxis = "y" }, trace) =>
      customdata.forEach(([key], i) =>
        places.set(key, [...(places.get(key) ?? []), { trace, xaxis, yaxis, x: x[i], y: y[i] }]),
      ),
    );
    const most = Math.max(...[...places.values()].map((list) => list.length));
    const rings = Array.from({ length: most }, () => add(plot.parentElement, "ring"));
    const panel = add(plot.parentElement, "details");
    const show = sprite ? thumbnail(sprite) : () => [];

    function position({ xaxis, yaxis, x, y }) {
      const layout = plot._fullLayout;
      const [h, v] = [xaxis, yaxis].map((name) => layout[name.replace(/^([xy])/, "$1axis")]);
      const [left, top] = [h.l2p(x), v.l2p(y)];
      const inside = left >= 0 && left <= h._length && top >= 0 && top <= v._length;
      return { left: plot.offsetLeft + h._offset + left, top: plot.offsetTop + v._offset + top, inside };
    }

    function hide() {
      for (const element of [panel, ...rings]) element.hidden = true;
    }

    function reveal({ points: [point] }) {
      if (!point.customdata) return;
      hide();
      const [key, ...lines] = point.customdata;
      places.get(key).forEach((place, i) => {
        const { left, top, inside } = position(place);
        rings[i].hidden = !inside || plot._fullData[place.trace].visible !== true;
        Object.assign(rings[i].style, { left: `${left}px`, top: `${top}px` });
      });
      const text = lines.map((line) =>
        Object.assign(document.createElement("p"), { textContent: line, dir: "auto" }),
      );
      panel.replaceChildren(...show(key), ...text);
      panel.hidden = false;
      // Right of the point; where there is no room, left of it; where there is none either, as on a phone, below.
      const hovered = places.get(key).find((place) => place.trace === point.curveNumber);
      const { left, top } = position(hovered);
      const room = plot.parentElement.clientWidth - panel.offsetWidth;
      const beside = [left + 18, left - 18 - panel.offsetWidth].find((x) => x >= 0 && x <= room);
      const [x, y] =
        beside === undefined
          ? [Math.min(Math.max(left - panel.offsetWidth / 2, 0), room), top + 18]
          : [beside, Math.max(top - panel.offsetHeight / 2, 0)];
      Object.assign(panel.style, { left: `${x}px`, top: `${y}px` });
    }

    plot.on("plotly_hover", reveal);
    plot.on("plotly_click", reveal); // a tap does not hover
    document.addEventListener("pointerdown", hide);
    plot.on("plotly_unhover", hide);
    plot.on("plotly_relayouting", hide);
    plot.on("plotly_afterplot", hide);
  }

  for (const plot of plots) {
    plot.description = JSON.parse(plot.nextElementSibling.textContent);
    draw(plot).then(() => {
      if (plot.description.linked) link(plot, plot.description.thumbnails);
    });
  }

  let waiting = 0;
  let width = innerWidth; // on a phone the height changes whenever the address bar hides
  function drawAll() {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => plots.forEach(draw));
  }
  dark.addEventListener("change", drawAll);
  addEventListener("resize", () => {
    if (innerWidth !== width) drawAll();
    width = innerWidth;
  });
})();
