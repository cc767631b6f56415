// What a page can only do in the browser: share the theme's variables with our style
// sheet, remember the reader's language, and keep the address true.
const NAMES = ["primary-color", "link-color", "background-color", "border-color", "green-text-color", "red-text-color"];

function shareTheme(element) {
    const style = getComputedStyle(element);
    const root = document.documentElement;
    for (const name of NAMES) {
        const value = style.getPropertyValue(`--st-${name}`).trim();
        if (root.style.getPropertyValue(`--st-${name}`) !== value) root.style.setProperty(`--st-${name}`, value);
    }
}

export default function (component) {
    const { data, parentElement } = component;
    const element = parentElement.querySelector(".kb-page");
    if (!element.watched) {
        element.watched = true;
        shareTheme(element);
        const watch = setInterval(() => {
            if (element.isConnected) shareTheme(element);
            else clearInterval(watch);
        }, 500);
    }
    if (data.language) {
        document.cookie = `kb_language=${encodeURIComponent(data.language)}; path=/; max-age=31536000; SameSite=Lax`;
    }
    // Streamlit pushes every change of the address into the history; turning a knob must not fill it.
    if (data.set && window.location.search !== data.address) {
        window.history.replaceState(window.history.state, "", window.location.pathname + data.address + window.location.hash);
    }
    return () => {};
}
