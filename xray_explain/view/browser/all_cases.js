// A page of all cases: sorted and filtered by DataTables, which stands before this in the same script.
const study = JSON.parse(document.getElementById("cases-data").textContent);
const number = study.columns.length; // hidden columns of places in an order come behind
const escaped = (text) => DataTable.util.escapeHtml(String(text));
const titles = [...study.columns.map((column) => column.title), ...Object.keys(study.orders)];
document.getElementById("cases-place").innerHTML = `<table id="cases" class="display" aria-label="All cases">
  <thead><tr>${titles.map((title) => `<th scope="col">${escaped(title)}</th>`).join("")}</tr></thead></table>`;
const absent = (value) => value === null || value === "";

// what is not there is last, whichever way a column is sorted
for (const [way, sign] of [["asc", 1], ["desc", -1]])
  DataTable.ext.type.order[`measured-${way}`] = (a, b) =>
    absent(a) ? (absent(b) ? 0 : 1) : absent(b) ? -1 : sign * (a - b);

/** A case in words, for those who do not see it and below the large picture. */
const inWords = (row) =>
  study.columns
    .map((column, i) => [column, row[i]])
    .filter(([column, value]) => column.visible && column.kind !== "picture" && !absent(value))
    .map(([column, value]) => `${column.title}: ${shown(column, value)}`)
    .join(", ");

const shown = (column, value) =>
  absent(value) ? "" : column.kind === "number" ? value.toFixed(column.digits) : String(value);

function picture(row) {
  if (!row[0]) return "<span>not drawn: text, perhaps a name, is part of it</span>";
  const alt = escaped(`${row[1]}: radiograph with evidence and outline`);
  return `<button class="thumb" aria-label="Enlarge ${escaped(row[1])}">
    <img loading="lazy" decoding="async" alt="${alt}" src="data:image/webp;base64,${row[0]}"></button>`;
}

function columnOf(column, i) {
  const common = { visible: column.visible, className: column.kind };
  if (column.kind === "picture")
    return {
      ...common, orderable: false, searchable: false, columnControl: [],
      render: (value, kind, row) => (kind === "display" ? picture(row) : ""),
    };
  const numeric = column.kind === "number";
  const content = column.few ? ["searchList"] : [numeric ? "searchNumber" : "searchText"];
  return {
    ...common,
    type: numeric ? "measured" : "string",
    columnControl: [{ extend: "order", text: `Sort by ${escaped(column.title)}` }, { extend: "dropdown", icon: "search", text: `Filter ${escaped(column.title)}`, content }],
    render: (value, kind) =>
      kind === "display" ? escaped(shown(column, value)) : kind === "export" ? shown(column, value) : value,
    createdCell: (cell) => cell.setAttribute("data-label", column.title),
  };
}

function orderChoice() {
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.setAttribute("aria-label", "Order of cases");
  select.id = "order";
  label.append("Order ", select);
  select.append(new Option("as the columns say", ""));
  Object.entries(study.orders).forEach(([name, words], i) => select.append(new Option(`${name}: ${words}`, number + i)));
  select.value = number;
  select.addEventListener("change", () => select.value && table.order([[+select.value, "asc"]]).draw());
  return label;
}

/** A cell of a CSV that no spreadsheet takes for a formula; the view's list of cases undoes it. */
const plain = (text) =>
  /^'*[=+\-@\t\r\n＝＋－＠]/.test(text) && !/^[+-]?\d+(\.\d+)?$/.test(text) ? `'${text}` : text;

/** What is found, so that filters never hide a case unsaid. */
const counted = (settings, start, end, all, total) =>
  `${total} of ${all} cases` + (total ? `, ${start} to ${end} shown` : "");

const table = new DataTable("#cases", {
  data: study.rows,
  columns: [
    ...study.columns.map(columnOf),
    ...Object.keys(study.orders).map(() => ({ visible: false, searchable: false, type: "num" })),
  ],
  order: [[number, "asc"]],
  ordering: { indicators: false, handler: false },
  autoWidth: false,
  pageLength: 25,
  lengthMenu: [10, 25, 50, 100],
  infoCallback: counted,
  language: {
    search: "Search in all columns",
    lengthMenu: "_MENU_ cases a page",
    zeroRecords: "No case is like this; clear a filter",
    paginate: { first: "First", last: "Last", next: "Next", previous: "Previous" },
  },
  layout: {
    topStart: "search",
    topEnd: orderChoice,
    top2Start: "info",
    top2End: {
      buttons: [
        {
          text: "Clear all filters",
          action: () => table.search("").columns().ccSearchClear().draw(),
        },
        { extend: "colvis", text: "Columns", columns: study.columns.map((_, i) => i).slice(2) },
        {
          extend: "csvHtml5", text: "Save these cases as CSV", filename: "cases", title: null,
          exportOptions: {
            columns: study.columns.map((_, i) => i).slice(1),
            orthogonal: "export",
            // its numbers are of all columns, then of those that are saved: the cell knows better
            format: {
              header: (_, i, cell) => plain(study.columns[table.column(cell).index()].name),
              body: (text) => plain(String(text)),
            },
          },
        },
      ],
    },
    bottomStart: "pageLength",
    bottomEnd: "paging",
  },
  createdRow: (row, values) => row.classList.toggle("untrusted", Boolean(values[study.untrusted])),
});
table.on("order", () => {
  const [at] = table.order()[0] ?? [""];
  document.getElementById("order").value = at >= number ? at : "";
});

// the large picture: a dialog of HTML, closed by Escape; arrow keys step through the cases as they are sorted
const dialog = document.getElementById("large");
const [image, words] = [dialog.querySelector("img"), dialog.querySelector("p")];
let place = 0;

function enlarge(at) {
  const rows = table.rows({ search: "applied", order: "applied" }).indexes().toArray();
  place = Math.min(Math.max(at, 0), rows.length - 1);
  const row = study.rows[rows[place]];
  image.hidden = !row[0];
  image.src = row[0] ? `data:image/webp;base64,${row[0]}` : "";
  image.alt = `${row[1]}: radiograph with evidence and outline`;
  words.textContent = `${place + 1} of ${rows.length} cases. ${inWords(row)}`;
  dialog.querySelector(".before").disabled = place === 0;
  dialog.querySelector(".next").disabled = place === rows.length - 1;
}

document.getElementById("cases").addEventListener("click", (event) => {
  const button = event.target.closest(".thumb");
  if (!button) return;
  const index = table.row(button.closest("tr")).index();
  enlarge(table.rows({ search: "applied", order: "applied" }).indexes().toArray().indexOf(index));
  dialog.showModal();
});
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.querySelector(".before").addEventListener("click", () => enlarge(place - 1));
dialog.querySelector(".next").addEventListener("click", () => enlarge(place + 1));
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") enlarge(place - 1);
  if (event.key === "ArrowRight") enlarge(place + 1);
});

// DataTables is dark by a class; paper is always light
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const colour = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", colour);
colour();
