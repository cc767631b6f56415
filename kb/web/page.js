// What a page can only do in the browser: share the theme's variables with our style
// sheet, remember the reader's language, and keep address and history true.
const NAMES = ["primary-color", "link-color", "background-color", "border-color", "green-text-color", "red-text-color"];

function shareTheme(element) {
    const style = getComputedStyle(element);
    const root = document.documentElement;
    for (const name of NAMES) {
        const value = style.getPropertyValue(`--st-${name}`).trim();
        if (root.style.getPropertyValue(`--st-${name}`) !== value) root.style.setProperty(`--st-${name}`, value);
    }
}

// Remembers that a link was followed: what a rerun reports after going back may be older than the address.
function watchLinks() {
    if (window.kbFollowed !== undefined) return;
    window.kbFollowed = false;
    document.addEventListener("click", (event) => {
        if (event.target.closest("[data-testid=stPageLink] a")) window.kbFollowed = true;
    }, true);
    window.addEventListener("popstate", () => (window.kbFollowed = false), true);
}

export default function (component) {
    const { data, parentElement } = component;
    const element = parentElement.querySelector(".kb-page");
    if (!element.watched) {
        element.watched = true;
        shareTheme(element);
        watchLinks();
        const watch = setInterval(() => {
            if (element.isConnected) shareTheme(element);
            else clearInterval(watch);
        }, 500);
    }
    if (data.language) {
        document.cookie = `kb_language=${encodeURIComponent(data.language)}; path=/; max-age=31536000; SameSite=Lax`;
    }
    if (data.page === undefined || !window.location.pathname.endsWith(`/${data.page}`)) return () => {};
    if (data.shown && element.shown !== data.shown) {
        element.shown = data.shown;
        const before = new URLSearchParams(window.location.search).get("id");
        // Streamlit adds to the history what leads to another page only.
        if (window.kbFollowed && before && before !== data.shown) {
            window.history.pushState(window.history.state, "", `?id=${encodeURIComponent(data.shown)}`);
            document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
        }
        window.kbFollowed = false;
    }
    // Streamlit pushes every change of the address into the history; turning a knob must not fill it.
    if (data.address !== undefined && window.location.search !== data.address) {
        window.history.replaceState(window.history.state, "", window.location.pathname + data.address + window.location.hash);
    }
    return () => {};
}
