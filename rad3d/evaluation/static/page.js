// The exported page: draws its figures and makes its tables sortable. It follows the scripts that it
// shares with the app in one module, so it imports nothing.

for (const place of document.querySelectorAll(".figure")) {
  const figure = JSON.parse(place.querySelector("script").textContent);
  const draw = () => {
    const look = { font: { color: getComputedStyle(document.body).color } };
    const { data, layout } = drawing(figure, place.clientWidth < place.dataset.narrow, look);
    Plotly.react(place, data, layout, { displayModeBar: false, responsive: true });
  };
  draw();
  addEventListener("resize", draw);
}
for (const board of document.querySelectorAll(".board")) mount(board, () => {});
