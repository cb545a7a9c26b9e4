// Filters the dashboard while typing. Without this script, the form asks the server for the same.
const field = document.getElementById("search");
const count = document.getElementById("count");
// A page that already shows a part has to be asked for the rest.
if (field && count && field.value === "") {
  const items = [...document.querySelectorAll(".tools li")];
  const texts = items.map((item) => item.textContent.toLowerCase());
  field.form.querySelector("button").hidden = true;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = 0;
    items.forEach((item, at) => {
      item.hidden = !words.every((word) => texts[at].includes(word));
      shown += item.hidden ? 0 : 1;
    });
    const all = items.length;
    count.textContent = shown === all ? (all === 1 ? "1 tool" : `${all} tools`) : `${shown} of ${all} tools`;
  });
}
// As in many applications: a slash goes to the search field.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (field && event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    field.focus();
  }
});
