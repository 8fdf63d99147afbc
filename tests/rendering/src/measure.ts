// What a reader would see at a glance: texts that are cut off, and legends that leave no room for the graph.
const LEGEND_SHARE = 0.4;
const SLACK = 1;
const LEAST_PIXELS = 8;
const FIGURE = /^[-+−~≈<>]?\s*[$€]?\s*\d/;

function texts(root: Element): Array<{ text: string; parent: HTMLElement; box: DOMRect }> {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const [text, parent] = [node.textContent?.trim(), node.parentElement];
    if (!text || !parent?.checkVisibility({ visibilityProperty: true, opacityProperty: true })) {
      continue;
    }
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width && box.height) {
      found.push({ text, parent, box });
    }
  }
  return found;
}

/** How the text leaves the boxes around it, up to the panel: nothing if it is all to be seen. */
function cut(box: DOMRect, parent: HTMLElement, panel: Element): string | undefined {
  for (let element: HTMLElement | null = parent; element; element = element === panel ? null : element.parentElement) {
    const { overflowX, overflowY, textOverflow } = getComputedStyle(element);
    const around = element.getBoundingClientRect();
    if (around.width <= SLACK) {
      return undefined; // said to those who do not see
    }
    const hides = element === panel || overflowX !== 'visible';
    if (
      hides &&
      element.clientWidth &&
      element.scrollWidth > element.clientWidth + SLACK &&
      textOverflow === 'ellipsis'
    ) {
      return 'ends with an ellipsis';
    }
    if (hides && (box.right > around.right + SLACK || box.left < around.left - SLACK)) {
      return ['auto', 'scroll'].includes(overflowX) ? 'is seen only after scrolling' : 'is cut at the side';
    }
    const scrolls = ['auto', 'scroll'].includes(overflowY);
    if (scrolls && (box.bottom > around.bottom + SLACK || box.top < around.top - SLACK)) {
      return undefined; // further down in a list that scrolls
    }
    const hidesBelow = element === panel || overflowY !== 'visible';
    if (hidesBelow && (box.bottom > around.bottom + 3 || box.top < around.top - 3)) {
      return 'is cut above or below';
    }
  }
  return undefined;
}

/** Texts that cannot be read whole; names in a table's cells apart, as Grafana cuts long ones by design. */
export function clippedTexts(panel: Element): { clipped: string[]; shortened: string[] } {
  const found = { clipped: new Set<string>(), shortened: new Set<string>() };
  for (const { text, parent, box } of texts(panel)) {
    const size = parseFloat(getComputedStyle(parent).fontSize);
    const how = size < LEAST_PIXELS ? `is only ${size.toFixed(1)} pixels high` : cut(box, parent, panel);
    const isName = parent.closest('[role="gridcell"]') && !FIGURE.test(text);
    if (how) {
      found[isName ? 'shortened' : 'clipped'].add(`"${text}" ${how}`);
    }
  }
  return { clipped: [...found.clipped], shortened: [...found.shortened] };
}

/** The graph and the legend beside or below it. */
function graphAndLegend(panel: Element): [HTMLElement, HTMLElement] | undefined {
  const content = panel.querySelector('[data-testid="data-testid panel content"]');
  const plot = panel.querySelector<HTMLElement>('.uplot');
  for (let part = plot; part && part !== content; part = part.parentElement) {
    const others = [...(part.parentElement?.children ?? [])].filter((one) => one !== part && one.textContent?.trim());
    if (others.length) {
      return [plot!, others[0] as HTMLElement];
    }
  }
  return undefined;
}

export interface LegendNotes {
  crowded?: string;
  shortened?: string;
}

export function legendNotes(panel: Element): LegendNotes {
  const found = graphAndLegend(panel);
  if (!found) {
    return {};
  }
  const [graph, legend] = found;
  const [own, plot, whole] = [legend, graph, panel].map((one) => one.getBoundingClientRect());
  const isBelow = own.top >= plot.bottom - SLACK;
  const share = isBelow ? own.height / whole.height : own.width / whole.width;
  const scrolls = [legend, ...legend.querySelectorAll('*')].some(
    (one) => ['auto', 'scroll'].includes(getComputedStyle(one).overflowY) && one.scrollHeight > one.clientHeight + SLACK
  );
  return {
    crowded: share > LEGEND_SHARE ? `the legend takes ${Math.round(share * 100)} % of the panel` : undefined,
    shortened: scrolls ? 'the legend has to be scrolled' : undefined,
  };
}
