/** Draws the nodes of an answer's Markdown; a node is drawn again only when its sign changes. */

import { Fence } from "./fence.js";
import { Formula } from "./formula.js";
import { Component, html } from "./html.js";
import { Link } from "./links.js";
import { Parts } from "./pieces.js";

/** One node. `context` has the `segments` and `sources` of the answer. */
export class Node extends Component {
  shouldComponentUpdate({ node, context }) {
    return node.sign !== this.props.node.sign || node.from !== this.props.node.from || context !== this.props.context;
  }

  render({ node, context }) {
    return html`<${DRAWN[node.kind] ?? Paragraph} node=${node} context=${context} />`;
  }
}

/** The children of a node. */
export function Nodes({ nodes, context }) {
  return nodes.map((node, at) => html`<${Node} key=${at} node=${node} context=${context} />`);
}

function inside({ node, context }) {
  return html`<${Nodes} nodes=${node.children} context=${context} />`;
}

function Paragraph(props) {
  return html`<p dir="auto">${inside(props)}</p>`;
}

/** Headings of an answer are below those of the page. */
function Heading(props) {
  const tag = `h${Math.min(6, props.node.level + 2)}`;
  return html`<${tag} class=${`h${props.node.level}`} dir="auto">${inside(props)}<//>`;
}

function List(props) {
  const { kind, start, isLoose } = props.node;
  const tag = kind === "numbers" ? "ol" : "ul";
  return html`<${tag} dir="auto" class=${isLoose ? "loose" : null} ...${kind === "numbers" && { start }}>${inside(props)}<//>`;
}

function Table({ node, context }) {
  const [head, ...rows] = node.children;
  return html`<div class="table" tabindex="0" role="group" aria-label="Table"><table>
    <thead><${Node} node=${head} context=${context} /></thead>
    <tbody><${Nodes} nodes=${rows} context=${context} /></tbody>
  </table></div>`;
}

function Cell(props) {
  const { isHead, side } = props.node;
  const how = { dir: "auto", class: side ? `at-${side}` : null, ...(isHead && { scope: "col" }) };
  return html`<${isHead ? "th" : "td"} ...${how}>${inside(props)}<//>`;
}

const DRAWN = {
  paragraph: Paragraph,
  heading: Heading,
  bullets: List,
  numbers: List,
  table: Table,
  cell: Cell,
  code: Fence,
  math: Formula,
  link: (props) => html`<${Link} href=${props.node.href}>${inside(props)}<//>`,
  picture: (props) => html`<${Link} href=${props.node.href} isPicture>${inside(props)}<//>`,
  text: ({ node, context }) => html`<${Parts} parts=${node.parts} context=${context} />`,
  item: (props) => html`<li dir="auto" class=${props.node.children[0]?.children?.[0]?.kind === "check" ? "task" : null}>${inside(props)}</li>`,
  quote: (props) => html`<blockquote>${inside(props)}</blockquote>`,
  row: (props) => html`<tr>${inside(props)}</tr>`,
  rest: (props) => html`<div class="rest">${inside(props)}</div>`,
  rule: () => html`<hr />`,
  em: (props) => html`<em>${inside(props)}</em>`,
  strong: (props) => html`<strong>${inside(props)}</strong>`,
  del: (props) => html`<del>${inside(props)}</del>`,
  span: (props) => html`<code dir="ltr">${inside(props)}</code>`,
  check: ({ node }) => html`<span class="check" role="img" aria-label=${node.isDone ? "done: " : "to do: "}>${node.isDone ? "☑" : "☐"} </span>`,
};
