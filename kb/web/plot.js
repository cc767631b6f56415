// Draws figures with plotly.js, each on one mount above its caption, in the colors of Streamlit's theme.
const CONFIG = { displayModeBar: false };

function loadPlotly(script) {
    if (window.Plotly) return Promise.resolve(window.Plotly);
    window.kbPlotly ??= new Promise((resolve, reject) => {
        const tag = document.createElement("script");
        tag.src = script;
        tag.onload = () => resolve(window.Plotly);
        tag.onerror = () => reject(new Error(`${script} could not be loaded`));
        document.head.append(tag);
    });
    return window.kbPlotly;
}

function themed(figure, element) {
    const style = getComputedStyle(element);
    const color = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    const text = color("--st-text-color", "#23262b");
    const line = color("--st-border-color", "#dedad0");
    const layout = { ...figure.layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
    delete layout.width;
    delete layout.height;
    delete layout.template;
    layout.font = { family: color("--st-font", "sans-serif"), size: 13, ...layout.font, color: text };
    for (const name of Object.keys(layout)) {
        if (/^[xyz]axis\d*$/.test(name)) {
            layout[name] = { automargin: true, ...layout[name], gridcolor: line, linecolor: line, zerolinecolor: line };
        }
    }
    layout.hoverlabel = {
        ...layout.hoverlabel,
        bgcolor: color("--st-secondary-background-color", "#f2efe7"),
        bordercolor: line,
        font: { color: text },
    };
    return layout;
}

// Makes as many places as there are drawings, each with its height and caption; returns the plots that must be redrawn.
function place(element, drawings) {
    while (element.children.length > drawings.length) element.lastChild.remove();
    while (element.children.length < drawings.length) {
        const figure = document.createElement("figure");
        figure.append(document.createElement("div"), document.createElement("figcaption"));
        figure.firstChild.className = "kb-plot";
        // A finger swipes and scrolls; what it taps still tells its value, by the mouse events that follow a tap.
        figure.firstChild.addEventListener("touchstart", (event) => event.stopPropagation(), { capture: true });
        new ResizeObserver(() => fill(figure.firstChild)).observe(figure.firstChild);
        element.append(figure);
    }
    return drawings.flatMap((drawing, number) => {
        const [plot, caption] = element.children[number].children;
        plot.style.height = drawing.height;
        plot.style.setProperty("--height", drawing.height);
        caption.textContent = drawing.caption;
        caption.dataset.place = `${number + 1}/${drawings.length}`;
        const changed = plot.drawing?.figure !== drawing.figure;
        plot.drawing = drawing;
        return changed ? [plot] : [];
    });
}

// Gives a plot the size of its place. Plotly's own `responsive` follows the window alone, and listens to it for ever.
function fill(plot) {
    const { width, height } = plot._fullLayout ?? {};
    if (!width || !plot.clientWidth) return;
    if (Math.max(Math.abs(width - plot.clientWidth), Math.abs(height - plot.clientHeight)) > 1) {
        window.Plotly.Plots.resize(plot);
    }
}

// On a phone, where figures are swiped, the strip is as high as the one in sight.
function fit(element) {
    const swiped = getComputedStyle(element).display === "flex";
    const seen = element.children[Math.round(element.scrollLeft / element.clientWidth)];
    element.style.height = swiped && seen ? `${seen.offsetHeight}px` : "";
}

function draw(plot) {
    const figure = JSON.parse(plot.drawing.figure);
    window.Plotly.react(plot, figure.data, themed(figure, plot), CONFIG);
    plot.dataset.drawn = String(Number(plot.dataset.drawn ?? 0) + 1);
}

const idle = () => new Promise((resolve) => (window.requestIdleCallback ?? setTimeout)(resolve));
const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

// One figure a frame, so that the first is seen at once; while knobs turn faster than all can be drawn, each gets its turn.
async function drawInTurn(element, plots) {
    element.waiting = [...new Set([...(element.waiting ?? []), ...plots])];
    if (element.drawing) return;
    element.drawing = true;
    try {
        while (element.waiting.length) {
            const plot = element.waiting.shift();
            if (plot.isConnected) draw(plot);
            await painted();
        }
    } finally {
        element.drawing = false;
    }
}

export default function (component) {
    const { data, parentElement, setStateValue } = component;
    const element = parentElement.querySelector(".kb-plots");
    const changed = place(element, data);
    fit(element);
    const giveUp = () => {
        element.replaceChildren();
        setStateValue("failed", true);
    };
    const wanted = data.length ? Promise.resolve() : idle();
    wanted.then(() => loadPlotly(element.dataset.script)).then(() => drawInTurn(element, changed), giveUp);

    if (!element.watched) {
        element.watched = true;
        element.addEventListener("scroll", () => fit(element));
        new ResizeObserver(() => fit(element)).observe(element);
        // Light and dark swap the theme's variables without running the script again.
        let ground = getComputedStyle(element).getPropertyValue("--st-background-color");
        const watch = setInterval(() => {
            if (!element.isConnected) return clearInterval(watch);
            const now = getComputedStyle(element).getPropertyValue("--st-background-color");
            if (now !== ground) {
                ground = now;
                if (window.Plotly) drawInTurn(element, element.querySelectorAll(".kb-plot"));
            }
        }, 500);
    }
    return () => {};
}
