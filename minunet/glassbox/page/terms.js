// The formula of one element: every term with its indices, the largest first, in pages; operands lead on.

import { byMagnitude } from "./formulas.js";
import { make } from "./make.js";
import { count, named, shown } from "./words.js";

const PAGE = 12;

export class Terms {
  // follow(kind, name, index) is called when the user goes on to an operand.
  constructor(place, follow) {
    this.place = place;
    this.follow = follow;
  }

  show(kind, name, index, { law, terms, value }) {
    this.sorted = byMagnitude(terms);
    this.page = 0;
    this.total = terms.reduce((sum, one) => sum + one.value, 0);
    this.body = make("tbody");
    this.position = make("span", { role: "status" });
    const turn = (by) => make("button", { type: "button", onclick: () => this.turn(by) }, by < 0 ? "previous" : "next");
    const pages = make("p", { className: "pages" }, turn(-1), " ", this.position, " ", turn(1));
    pages.hidden = terms.length <= PAGE;
    this.place.replaceChildren(
      make("p", { className: "value" }, make("strong", {}, named(kind, name, index)), ` = ${shown(value)}`),
      make("p", { className: "law" }, law),
      make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "terms" },
        make("table", {}, make("caption", {}, `${count(terms.length, "term")}, the largest first`),
          make("thead", {}, make("tr", {}, ...["term", "is the product of"].map((head) => make("th", { scope: "col" }, head)))),
          this.body,
          make("tfoot", {}, make("tr", {}, make("td", {}, shown(this.total)), make("td", {}, "sum of all terms"))))),
      pages,
    );
    this.turn(0);
  }

  turn(by) {
    const last = Math.max(0, Math.ceil(this.sorted.length / PAGE) - 1);
    this.page = Math.max(0, Math.min(last, this.page + by));
    const rows = this.sorted.slice(this.page * PAGE, (this.page + 1) * PAGE);
    this.body.replaceChildren(...rows.map((one) => this.row(one)));
    this.position.textContent = `page ${this.page + 1} of ${last + 1}`;
  }

  row({ value, factors }) {
    const parts = factors.flatMap((factor, k) => [...(k ? [" · "] : []), this.factor(factor)]);
    return make("tr", {}, make("td", {}, shown(value)), make("td", {}, ...parts));
  }

  factor({ kind, name, index, text, value }) {
    if (text) return text === "1" ? "1" : `${text} = ${shown(value)}`;
    const label = `${named(kind, name, index)} = ${shown(value)}`;
    return make("button", { type: "button", className: "operand", onclick: () => this.follow(kind, name, index) }, label);
  }
}
