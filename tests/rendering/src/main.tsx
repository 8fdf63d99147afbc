// Draws the dashboard in window.rendering, and tells in window.report() what there is to see.
import './boot';
import 'uplot/dist/uPlot.min.css';
import './page.css';
import { LoadingState, ThemeContext } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { EmbeddedScene, SceneObject, SceneQueryRunner, VizPanel, sceneGraph } from '@grafana/scenes';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import { Panel, PanelNote, Report, errors, queries, task, visiblePanels } from './dashboard';
import { LegendNotes, clippedTexts, legendNotes } from './measure';
import { registerPanels } from './panels';
import { fillRegistries, source, theme } from './registries';
import { scene } from './scene';

type List = 'failed' | 'empty' | 'emptyOnPurpose' | 'clipped' | 'shortened' | 'legends';

const FINAL = [LoadingState.Done, LoadingState.Error];

function runner(panel: VizPanel): SceneQueryRunner | undefined {
  const data = panel.state.$data;
  return (
    data && (sceneGraph.findObject(data, (one: SceneObject) => one instanceof SceneQueryRunner) as SceneQueryRunner)
  );
}

function isDone(panel: VizPanel): boolean {
  const asked = runner(panel)?.state.data;
  const shown = panel.state.$data?.state as any;
  return !panel.state.$data || Boolean(asked && FINAL.includes(asked.state) && FINAL.includes(shown.data?.state));
}

function errorOf(panel: VizPanel | undefined, element: Element | null): string | undefined {
  if (!panel || !element) {
    return 'it is not on the page';
  }
  const data = (panel.state.$data?.state as any)?.data;
  const failure = data?.errors?.[0] ?? data?.error ?? (runner(panel)?.state.data?.errors ?? [])[0];
  const loading = (panel.state as any)._pluginLoadError;
  const shown = element.querySelector('[data-testid="data-testid Panel status error"], [aria-label="Panel status"]');
  return failure?.message ?? loading ?? (shown ? shown.textContent || 'it shows an error' : undefined);
}

function isEmpty(panel: VizPanel): boolean {
  const series = (panel.state.$data?.state as any)?.data?.series ?? [];
  return Boolean(panel.state.$data) && !series.some((frame: any) => frame.length > 0);
}

/** A panel that says what it shows without data is allowed to have none. */
const saysWhenEmpty = (panel: Panel) => panel.fieldConfig?.defaults.noValue !== undefined;

function slowest(): Record<string, number> {
  const seconds: Record<string, number> = {};
  for (const query of queries) {
    seconds[query.of] = Math.max(seconds[query.of] ?? 0, query.seconds);
  }
  return seconds;
}

/** Annotations ask when the variables have their values: when a report finds everything else done. */
class Annotations {
  private left: number | undefined;

  areDone(drawn: EmbeddedScene): boolean {
    if (this.left === undefined) {
      const enabled = (task.dashboard.annotations?.list ?? []).filter((one) => one.enable !== false && one.expr);
      const range = sceneGraph.getTimeRange(drawn).state.value;
      this.left = enabled.length;
      for (const annotation of enabled) {
        const asked = source.annotate(annotation, range, { __sceneObject: { value: drawn, text: '' } });
        asked.catch((error) => errors.push(`annotation ${annotation.name}: ${error}`)).finally(() => this.left!--);
      }
    }
    return this.left === 0;
  }
}

const annotations = new Annotations();

function report(drawn: EmbeddedScene): Report {
  const found = sceneGraph.findAllObjects(drawn, (one) => one instanceof VizPanel) as VizPanel[];
  const byKey = new Map(found.map((one) => [one.state.key, one]));
  const waiting = found.filter((one) => one.isActive && !isDone(one)).map((one) => String(one.state.key));
  const loading = (sceneGraph.getVariables(drawn).state.variables ?? []).filter((one) => one.state.loading);
  waiting.push(...loading.map((one) => `variable ${one.state.name}`));
  const lists: Record<List, PanelNote[]> = {
    failed: [],
    empty: [],
    emptyOnPurpose: [],
    clipped: [],
    shortened: [],
    legends: [],
  };
  const panels = visiblePanels(task.dashboard);
  for (const panel of panels) {
    const own = byKey.get(`panel-${panel.id}`);
    const element = document.querySelector(`[data-viz-panel-key="panel-${panel.id}"]`);
    const add = (list: List, note?: string) => lists[list].push({ id: panel.id, title: panel.title ?? '', note });
    const error = errorOf(own, element);
    if (error || !own || !element) {
      add('failed', error);
      continue;
    }
    if (isEmpty(own)) {
      add(saysWhenEmpty(panel) ? 'emptyOnPurpose' : 'empty');
    }
    const texts = clippedTexts(element);
    const { crowded, shortened }: LegendNotes = panel.type === 'timeseries' ? legendNotes(element) : {};
    texts.clipped.forEach((text) => add('clipped', text));
    [...texts.shortened, ...(shortened ? [shortened] : [])].forEach((text) => add('shortened', text));
    if (crowded) {
      add('legends', crowded);
    }
  }
  const variables = sceneGraph
    .getVariables(drawn)
    .state.variables.map((one) => [one.state.name, one.getValueText?.() ?? String(one.getValue())]);
  const settled = waiting.length === 0 && document.fonts.status === 'loaded' && annotations.areDone(drawn);
  return {
    settled,
    waiting,
    panels: panels.length - lists.failed.length,
    errors,
    queries,
    ...lists,
    serverSeconds: slowest(),
    variables: Object.fromEntries(variables),
  };
}

function Page({ drawn }: { drawn: EmbeddedScene }) {
  const background = theme.colors.background.canvas;
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <MemoryRouter>
        <div className="page" style={{ background, color: theme.colors.text.primary }}>
          <h1 className="title">{task.dashboard.title}</h1>
          <drawn.Component model={drawn} />
        </div>
      </MemoryRouter>
    </ThemeContext.Provider>
  );
}

async function main() {
  await initPluginTranslations('grafana-runtime');
  fillRegistries();
  registerPanels();
  const drawn = scene(task.dashboard);
  drawn.activate();
  window.report = () => report(drawn);
  createRoot(document.getElementById('root')!).render(<Page drawn={drawn} />);
}

main().catch((error) => (window.broken = String(error.stack ?? error)));
