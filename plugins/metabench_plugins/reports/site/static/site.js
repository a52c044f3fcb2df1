// Joins the data of the page to Tabulator, keeps filter and order in the address, and adds the keyboard.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const status = document.getElementById("status");

  // Everything from a result becomes text nodes: no value is ever read as markup.
  const link = (cell) => {
    const box = document.createElement("span");
    for (const [text, href] of cell.getValue() || []) {
      const a = document.createElement("a");
      a.textContent = text;
      a.href = href;
      box.append(a, " ");
    }
    return box;
  };
  const shown = (cell) => document.createTextNode(cell.getData()["_" + cell.getField()] ?? cell.getValue() ?? "");

  // "≥ 3" (or just "3"), "≤ 3", "= 3"; what is no number filters nothing.
  const limits = /^\s*(>=|<=|[≥≤><=])?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*$/i;
  const within = (text, value) => {
    const match = limits.exec(text);
    if (!match) return true;
    if (value === null || value === undefined) return false;
    const limit = Number(match[2]);
    switch (match[1]) {
      case "<=": case "≤": return value <= limit;
      case "<": return value < limit;
      case ">": return value > limit;
      case "=": return value === limit;
      default: return value >= limit;
    }
  };

  // A spreadsheet would run text that begins so as a formula.
  const inert = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : value);

  const columns = page.columns.map((column) => ({
    title: column.title,
    field: column.field,
    hozAlign: column.number ? "right" : "left",
    sorter: column.kind === "link" ? undefined : column.number ? "number" : "string",
    sorterParams: { alignEmptyValues: "bottom" },
    headerSort: column.kind !== "link",
    headerFilter: column.kind === "link" ? false : "input",
    headerFilterPlaceholder: column.number ? "≥ or ≤" : "contains",
    headerFilterFunc: column.number ? within : "like",
    headerTooltip: column.help,
    formatter: column.kind === "link" ? link : shown,
    minWidth: column.number ? 84 : 40,
    visible: column.kind !== "hidden",
    download: column.kind !== "link",
    accessorDownload: inert,
    widthGrow: 1,
    maxWidth: column.kind === "link" ? undefined : 420,
  }));

  const table = new Tabulator("#table", {
    data: page.rows,
    rowFormatter: (row) => row.getElement().classList.toggle("withdrawn", Boolean(row.getData().withdrawn)),
    columns,
    layout: "fitDataStretch",
    pagination: true,
    paginationSize: 50,
    paginationSizeSelector: [25, 50, 100, 500],
    placeholder: "No result matches the filter.",
    downloadConfig: { rowGroups: false, columnCalcs: false },
  });

  const state = () => {
    const filters = table.getHeaderFilters().map((filter) => [filter.field, String(filter.value)]);
    const order = table.getSorters().map((sorter) => [sorter.field, sorter.dir]);
    return { filters, order };
  };
  let reading = false;
  const remember = () => {
    if (reading) return;
    const { filters, order } = state();
    const words = new URLSearchParams();
    for (const [field, value] of filters) words.append("f." + field, value);
    if (order.length) words.set("sort", order.map((pair) => pair.join(":")).join(","));
    const hash = words.toString();
    history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
    tell();
  };
  const recall = () => {
    reading = true;
    const words = new URLSearchParams(location.hash.slice(1));
    const fields = new Set(page.columns.map((column) => column.field));
    table.clearHeaderFilter();
    for (const [name, value] of words) {
      if (name.startsWith("f.") && fields.has(name.slice(2))) table.setHeaderFilterValue(name.slice(2), value);
    }
    const order = (words.get("sort") || "").split(",").filter(Boolean).map((pair) => pair.split(":"));
    const known = order.filter(([field, dir]) => fields.has(field) && (dir === "asc" || dir === "desc"));
    if (known.length) table.setSort(known.map(([column, dir]) => ({ column, dir })));
    reading = false;
    tell();
  };
  const tell = () => {
    status.textContent = `${table.getDataCount("active")} of ${page.rows.length} rows`;
  };

  table.on("tableBuilt", () => {
    for (const column of table.getColumns()) {
      const title = column.getElement().querySelector(".tabulator-col-title");
      const filter = column.getElement().querySelector("input");
      if (filter) filter.setAttribute("aria-label", `filter by ${column.getDefinition().title}`);
      if (!column.getDefinition().headerSort || !title) continue;
      title.tabIndex = 0;
      title.setAttribute("role", "button");
      title.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        const now = table.getSorters().find((sorter) => sorter.field === column.getField());
        table.setSort(column.getField(), now && now.dir === "asc" ? "desc" : "asc");
      });
    }
    if (location.hash.length > 1) recall();
    tell();
    table.on("dataFiltered", () => setTimeout(remember));
    table.on("dataSorted", () => setTimeout(remember));
    document.documentElement.dataset.ready = "yes";
  });
  window.addEventListener("hashchange", recall);
  document.getElementById("csv").addEventListener("click", () => table.download("csv", page.name + ".csv"));
  document.getElementById("clear").addEventListener("click", () => { table.clearHeaderFilter(); });
  document.getElementById("copy").addEventListener("click", async (event) => {
    remember();
    try {
      await navigator.clipboard.writeText(location.href);
      event.target.textContent = "Link copied";
    } catch {
      window.prompt("Link to this view:", location.href);
    }
  });
})();
