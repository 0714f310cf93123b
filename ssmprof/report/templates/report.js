"use strict";
(() => {
  const id = (name) => document.getElementById(name);
  const views = JSON.parse(id("views").textContent);
  const root = document.documentElement;
  const state = { facet: 0, at: -1, linear: false, off: new Set() };
  const make = (tag, text, css) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (css) node.className = css;
    return node;
  };
  const view = () => views[state.facet];
  const unpack = async (name) => {
    const bytes = Uint8Array.from(atob(id(name).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).text();
  };
  const wanted = {};
  const save = () => {
    const parts = [];
    if (state.facet) parts.push("f=" + state.facet);
    if (state.at >= 0) parts.push("x=" + state.at);
    if (state.linear) parts.push("y=lin");
    if (state.off.size) parts.push("off=" + [...state.off].map(encodeURIComponent).join(","));
    if (wanted.w) parts.push("w=" + encodeURIComponent(wanted.w));
    history.replaceState(null, "", "#" + parts.join("&"));
  };

  // Theme: the system's, until somebody chooses.
  const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = id("theme");
  theme.hidden = false;
  const paint = (choice) => {
    root.dataset.theme = choice;
    theme.textContent = choice === "dark" ? "Light" : "Dark";
  };
  theme.textContent = dark() ? "Light" : "Dark";
  theme.addEventListener("click", () => {
    paint((root.dataset.theme || (dark() ? "dark" : "light")) === "dark" ? "light" : "dark");
  });

  // One context cursor: pointer or arrow keys; one line that says what stands there.
  const hero = id("hero");
  const picture = id("picture");
  const readout = id("readout");
  readout.hidden = false;
  const cursor = make("div", undefined, "cursor");
  cursor.hidden = true;
  const place = (tokens) => {
    const v = view();
    const share = Math.log(tokens / v.low) / Math.log(v.high / v.low);
    return v.left + share * (v.right - v.left);
  };
  const read = (index) => {
    const v = view();
    if (!v.contexts.length) return;
    state.at = Math.max(0, Math.min(v.contexts.length - 1, index));
    const tokens = v.contexts[state.at];
    const texts = v.series.map((s, column) => [s, v.rows[state.at][column + 1]])
      .filter(([s, text]) => !state.off.has(s.block) && text !== "–");
    readout.textContent = tokens.toLocaleString("en-US") + " tokens: " +
      texts.map(([s, text]) => s.label + " " + text).join("; ") + ".";
    cursor.style.left = place(tokens) * picture.querySelector("svg").getBoundingClientRect().width + "px";
    if (!cursor.isConnected) picture.append(cursor);
    cursor.hidden = false;
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.querySelector("svg").getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    let best = 0;
    view().contexts.forEach((tokens, index) => {
      if (Math.abs(place(tokens) - x) < Math.abs(place(view().contexts[best]) - x)) best = index;
    });
    read(best);
  });
  picture.addEventListener("pointerleave", save);
  hero.addEventListener("keydown", (event) => {
    const last = view().contexts.length - 1;
    const start = state.at < 0 ? 0 : state.at;
    const to = { ArrowLeft: start - 1, ArrowRight: state.at + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    read(to);
    save();
  });

  // Legend entries become switches.
  const show = (block) => {
    for (const part of ["series-", "band-", "ratio-", "misfit-"]) {
      const node = id(view().key + "-" + part + block);
      if (node) node.toggleAttribute("hidden", state.off.has(block));
      if (node) node.style.display = state.off.has(block) ? "none" : "";
    }
  };
  const legend = () => {
    const line = id("legend");
    line.replaceChildren();
    for (const s of view().series) {
      const button = make("button", s.mark + " " + (s.legend || s.label), "ink-" + s.token);
      button.type = "button";
      button.ariaPressed = String(!state.off.has(s.block));
      button.addEventListener("click", () => {
        if (!state.off.delete(s.block)) state.off.add(s.block);
        button.ariaPressed = String(!state.off.has(s.block));
        show(s.block);
        save();
      });
      line.append(button);
      show(s.block);
    }
  };

  // Other pictures are unpacked when asked for; they are the report's own, the rest is text.
  const draw = async () => {
    const linear = state.linear && id(view().key + "-linear");
    const held = linear || id(view().key + "-log");
    const svg = held ? await unpack(held.id) : first;
    picture.innerHTML = svg;
    scale.ariaPressed = String(Boolean(linear));
    for (const s of view().series) show(s.block);
  };
  const choose = async (index) => {
    const v = views[index];
    if (!v) return;
    state.facet = index;
    await draw();
    // No line of a heading ends behind the hyphen of a name.
    id("verdict").replaceChildren(
      ...v.sentence.split(/(\S+-\S+)/).map((w, i) => (i % 2 ? make("span", w, "nb") : w)),
    );
    id("dominance").textContent = v.dominance;
    id("conditions").textContent = v.conditions;
    id("reading").textContent = v.reading;
    const cards = v.cards.map((c) => {
      const card = make("div", undefined, "card" + (c.state ? " card-" + c.state : ""));
      card.append(make("p", c.number, "number"), " ", make("p", c.label, "label"));
      return card;
    });
    id("cards").replaceChildren(...cards);
    const body = id("numbers").querySelector("table");
    const head = make("tr");
    head.append(...["context", ...v.series.map((s) => s.label)].map((text) => {
      const cell = make("th", text);
      cell.scope = "col";
      return cell;
    }));
    body.tHead.replaceChildren(head);
    body.className = [...head.cells].map((_, at) => "r" + (at + 1)).join(" ");
    body.caption.textContent = v.caption;
    body.tBodies[0].replaceChildren(...v.rows.map((cells) => {
      const row = make("tr");
      row.append(...cells.map((text) => make("td", text)));
      return row;
    }));
    readout.textContent = "";
    cursor.hidden = true;
    legend();
  };
  const first = picture.innerHTML;
  const facet = id("facet");
  const scale = id("scale");
  if ("DecompressionStream" in window) {
    scale.hidden = false;
    scale.addEventListener("click", async () => {
      state.linear = !state.linear;
      await draw();
      if (state.at >= 0) read(state.at);
      save();
    });
  }
  if (facet && "DecompressionStream" in window) {
    facet.parentElement.hidden = false;
    facet.addEventListener("change", () => {
      state.at = -1;
      choose(+facet.value).then(save);
    });
  }

  // Columns sort by number where they are numbers.
  const value = (cell) => {
    const text = cell.textContent.trim();
    const found = /^-?[\d,.]+/.exec(text);
    if (!found) return text;
    const unit = { K: 1024, M: 1048576, "µs": 1e-6, ms: 1e-3, s: 1, KiB: 1024, MiB: 1048576, GiB: 1073741824 };
    const tail = text.slice(found[0].length).trim().split(" ")[0];
    return Number(found[0].replaceAll(",", "")) * (unit[tail] || 1);
  };
  for (const table of document.querySelectorAll("section table:not(.grid)")) {
    if (!table.tHead || table.tBodies[0].rows.length < 3) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.ariaSort = down ? "ascending" : "descending";
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [value(a.cells[column]), value(b.cells[column])];
          const order = typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : 1;
          return down ? order : -order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // Downloads come from the file itself, where objects lie in columns.
  const rows = (column) => {
    if (Array.isArray(column)) return column;
    const { mask, lengths, words, n, of } = column;
    if (n !== undefined) {
      const columns = Object.entries(of).map(([key, values]) => [key, rows(values)]);
      return Array.from({ length: n }, (_, row) =>
        Object.fromEntries(columns.map(([key, list]) => [key, list[row]]).filter(([, value]) => value !== undefined)));
    }
    const values = rows(of);
    let at = 0;
    if (mask) return [...mask].map((bit) => (bit === "1" ? values[at++] : undefined));
    if (lengths) return lengths.map((length) => values.slice(at, (at += length)));
    return values.map((index) => words[index]);
  };
  const csv = (run) => {
    const heads = ["block", "phase", "context", "batch", "dtype", "execution", "logits", "round", "status", "time_s", "peak_bytes", "energy_j"];
    const middle = (list) => {
      const sorted = [...list].sort((a, b) => a - b);
      return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
    };
    const rows = run.outcomes.map((one) => {
      const p = { batch: 1, dtype: "bfloat16", execution: "graph", logits: "none", ...one.point, ...one.point.workload };
      const found = {
        ...p, round: one.round, status: one.reason || "ok",
        time_s: one.times_s ? middle(one.times_s) : "",
        peak_bytes: one.memory ? one.memory.allocator_peak_bytes : "",
        energy_j: one.energy ? one.energy.energy_j : "",
      };
      return heads.map((head) => '"' + String(found[head]).replaceAll('"', '""') + '"').join(",");
    });
    return [heads.join(","), ...rows].join("\n") + "\n";
  };
  for (const button of document.querySelectorAll("button[data-payload]")) {
    if (!("DecompressionStream" in window)) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const link = make("a");
      const held = JSON.parse(await unpack(button.dataset.payload));
      for (const name of ["outcomes", "telemetry", "decisions"]) if (held[name]) held[name] = rows(held[name]);
      const text = button.dataset.file.endsWith(".csv") ? csv(held) : JSON.stringify(held);
      link.href = URL.createObjectURL(new Blob([text]));
      link.download = button.dataset.file;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  // The reader's own workload, on the curves of the page: what `ssmprof decide` computes.
  const form = id("mine");
  const mine = form && JSON.parse(id("mine-data").textContent);
  const between = (curve, at) => {
    const i = curve.findIndex(([length]) => length >= at);
    if (i < 0) return NaN;
    const [high, last] = curve[i];
    if (high === at) return last;
    if (!i) return NaN;
    const [low, first] = curve[i - 1];
    const share = Math.log(at / low) / Math.log(high / low);
    return Math.exp((1 - share) * Math.log(first) + share * Math.log(last));
  };
  const three = (n) => {
    const digits = Math.max(0, 2 - Math.floor(Math.log10(n)));
    return n.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };
  const time = (s) => {
    const [unit, name] = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]].find(([u]) => s >= u) || [1e-9, "ns"];
    return three(s / unit) + " " + name;
  };
  const work = () => {
    const said = id("mine-said");
    const field = (name) => form.elements[name].value.trim();
    const texts = field("mix").split(",");
    const mix = texts.map((text) => {
      const m = /^\s*([\d.]+)([KkMm]?)\s*(?::\s*([\d.]+)\s*%?)?\s*$/.exec(text) || [];
      return [m[1] * { "": 1, k: 1024, m: 1048576 }[(m[2] || "").toLowerCase()], m[3] ? m[3] / 100 : 1 / texts.length];
    });
    const sum = (of) => mix.reduce((total, [at, weight]) => total + weight * of(at), 0);
    if (mix.some(([at]) => !(at > 0)) || Math.abs(sum(() => 1) - 1) > 1e-6) {
      said.textContent = "A mix adds up to 100 %.";
      return;
    }
    const tokens = +field("answer");
    const [ttft, memory, price] = ["ttft", "memory", "price"].map((name) => +field(name));
    const rows = mine.curves.map(({ block, curves: [prompt, token, peak] }) => {
      const mean = (curve) => sum((at) => between(curve, at));
      const first = mean(prompt);
      const whole = first + (tokens ? tokens * mean(token) : 0);
      const made = mine.batch * (tokens || sum((at) => at));
      const out = !(whole > 0) ? "not measured"
        : ttft && mix.some(([at]) => between(prompt, at) > ttft / 1e3) ? "time"
        : memory && mix.some(([at]) => !(between(peak, at) <= memory * 2 ** 30)) ? "memory" : "";
      return { block, first, whole, speed: made / whole, cost: ((price / 3600) * whole / made) * 1e6, out };
    }).sort((a, b) => !!a.out - !!b.out || a.whole - b.whole);
    id("mine-table").querySelector("tbody").replaceChildren(...rows.map((one) => {
      const row = make("tr");
      const show = (n, text) => (n > 0 ? text(n) : "–");
      row.append(...[one.block, show(one.first, time), show(one.whole, time), show(one.speed, three),
        show(one.cost, three), one.out || "–"].map((text) => make("td", text)));
      return row;
    }));
    const asked = "ssmprof decide RUN --mix " + field("mix").replaceAll(" ", "") + " --answer " + tokens +
      (price ? " --price " + price : "") + (ttft ? " --ttft " + ttft + "ms" : "") + (memory ? " --memory " + memory + "GiB" : "");
    said.textContent = (rows[0].out ? "None fits." : rows[0].block + " is fastest.") + " How sure: " + asked;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      wanted.w = [...form.elements].map((one) => one.value).join(";");
      work();
      save();
    });
  }

  addEventListener("beforeprint", () => {
    const hidden = [...state.off];
    state.off.clear();
    hidden.forEach(show);
    cursor.hidden = true;
  });
  addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || !"[]".includes(event.key)) return;
    const charts = [...document.querySelectorAll("figure")];
    const at = charts.findIndex((c) => c.contains(document.activeElement));
    const next = charts[at + (event.key === "]" ? 1 : -1)];
    const target = next && (next.id === "hero" ? next : next.querySelector(".chart"));
    if (target) target.focus();
  });

  legend();
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const block of (asked.get("off") || "").split(",").filter(Boolean)) state.off.add(decodeURIComponent(block));
  const restore = () => {
    legend();
    if (asked.has("x")) read(+asked.get("x"));
  };
  if (form && asked.has("w")) {
    wanted.w = asked.get("w");
    wanted.w.split(";").forEach((text, at) => { if (form.elements[at]) form.elements[at].value = text; });
    work();
  }
  const start = +(asked.get("f") || 0);
  state.linear = !scale.hidden && asked.get("y") === "lin";
  if (facet && start > 0 && start < views.length) {
    facet.value = String(start);
    choose(start).then(restore);
  } else if (state.linear) {
    draw().then(restore);
  } else {
    restore();
  }
})();
