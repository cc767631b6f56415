// Draws data.figure with plotly.js on one mount, in the colors of Streamlit's theme.
const SCRIPT = new URL("/api/plotly.min.js", window.location.href).href;

function loadPlotly() {
    if (window.Plotly) return Promise.resolve(window.Plotly);
    window.kbPlotly ??= new Promise((resolve, reject) => {
        const tag = document.createElement("script");
        tag.src = SCRIPT;
        tag.onload = () => resolve(window.Plotly);
        tag.onerror = () => reject(new Error("plotly.min.js could not be loaded"));
        document.head.append(tag);
    });
    return window.kbPlotly;
}

function themed(figure, element, height) {
    const style = getComputedStyle(element);
    const color = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    const text = color("--st-text-color", "#23262b");
    const line = color("--st-border-color", "#dedad0");
    const layout = { ...figure.layout, height, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
    delete layout.width;
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

export default function (component) {
    const { data, parentElement, setStateValue } = component;
    const element = parentElement.querySelector(".kb-plot");
    element.style.height = `${data.height}px`;
    const config = { displayModeBar: false, responsive: true };

    const draw = () => {
        if (!window.Plotly) return;
        const figure = JSON.parse(element.figureText);
        window.Plotly.react(element, figure.data, themed(figure, element, data.height), config);
        element.dataset.drawn = String(Number(element.dataset.drawn ?? 0) + 1);
    };
    element.figureText = data.figure;
    element.redraw = draw;
    loadPlotly().then(draw, () => setStateValue("failed", true));

    if (!element.watched) {
        element.watched = true;
        // Light and dark swap the theme's variables without running the script again.
        let ground = getComputedStyle(element).getPropertyValue("--st-background-color");
        const watch = setInterval(() => {
            if (!element.isConnected) return clearInterval(watch);
            const now = getComputedStyle(element).getPropertyValue("--st-background-color");
            if (now !== ground) {
                ground = now;
                element.redraw();
            }
        }, 500);
    }
    return () => {};
}
