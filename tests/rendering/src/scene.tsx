// Grafana's dashboard JSON as a scene: what Grafana's application does when it loads a dashboard.
import { FieldConfigSource, TimeRange, dateMath, dateTime, rangeUtil } from '@grafana/data';
import {
  ConstantVariable,
  CustomVariable,
  DataSourceVariable,
  EmbeddedScene,
  IntervalVariable,
  QueryVariable,
  SceneControlsSpacer,
  SceneDataTransformer,
  SceneGridItem,
  SceneGridLayout,
  SceneGridRow,
  SceneObject,
  SceneQueryRunner,
  SceneTimePicker,
  SceneTimeRange,
  SceneTimeRangeState,
  SceneTimeRangeTransformerBase,
  SceneVariable,
  SceneVariableSet,
  TextBoxVariable,
  VariableValueSelectors,
  VizPanel,
} from '@grafana/scenes';
import { Dashboard, Panel, Variable, errors, task } from './dashboard';
import { FIELD_OPTIONS } from './panels';

interface PanelTimeRangeState extends SceneTimeRangeState {
  timeFrom?: string;
  timeShift?: string;
}

/** A range of the panel's own, like `now/d` or `24h`, or the dashboard's moved into the past. */
class PanelTimeRange extends SceneTimeRangeTransformerBase<PanelTimeRangeState> {
  constructor({ timeFrom, timeShift }: Panel) {
    const value = rangeUtil.convertRawToRange({ from: 'now-6h', to: 'now' });
    super({ timeFrom, timeShift, from: 'now-6h', to: 'now', value });
    this.addActivationHandler(() => this.ancestorTimeRangeChanged(this.getAncestorTimeRange().state));
  }

  protected ancestorTimeRangeChanged({ value }: SceneTimeRangeState) {
    const { timeFrom, timeShift } = this.state;
    let range: TimeRange = value;
    if (timeFrom) {
      const { from, to, invalid } = rangeUtil.describeTextRange(timeFrom);
      if (invalid) {
        errors.push(`${this.parent?.state.key}: the relative time "${timeFrom}" is not one`);
      }
      range = rangeUtil.convertRawToRange({ from, to }, this.getTimeZone());
    }
    if (timeShift) {
      const moved = (time: TimeRange['from'], isEnd: boolean) =>
        dateMath.parseDateMath(`-${timeShift}`, dateTime(time), isEnd);
      const [from, to] = [moved(range.from, false), moved(range.to, true)];
      if (!from || !to) {
        errors.push(`${this.parent?.state.key}: the time shift "${timeShift}" is not one`);
        return;
      }
      range = { from, to, raw: { from, to } };
    }
    this.setState({ value: range, from: String(range.raw.from), to: String(range.raw.to) });
  }
}

function query({ query }: Variable): string {
  return typeof query === 'string' ? query : (query?.query ?? '');
}

function variable(given: Variable): SceneVariable {
  const { name, label, hide, current } = given;
  const common = { name, label, hide };
  const override = task.variables[name];
  const several = given.multi ? override : override?.[0];
  const chosen = override ? { value: several, text: several } : { value: current?.value, text: current?.text };
  const value = chosen.value === undefined ? {} : chosen;
  const { multi: isMulti, includeAll, allValue } = given;
  const choice = {
    ...common,
    isMulti,
    includeAll,
    allValue,
    defaultToAll: includeAll && !override && !current?.value,
    ...value,
  };
  switch (given.type) {
    case 'datasource':
      return new DataSourceVariable({ ...common, pluginId: query(given), regex: given.regex });
    case 'query': {
      const { datasource, regex, refresh, sort } = given;
      return new QueryVariable({ ...choice, datasource, query: given.query, regex, refresh, sort });
    }
    case 'custom':
      return new CustomVariable({ ...choice, query: query(given) });
    case 'interval': {
      const auto = { autoEnabled: given.auto, autoStepCount: given.auto_count, autoMinInterval: given.auto_min };
      const intervals = query(given)
        .split(',')
        .map((one) => one.trim());
      return new IntervalVariable({
        ...common,
        ...auto,
        intervals,
        value: override?.[0] ?? current?.value ?? intervals[0],
      });
    }
    case 'textbox':
      return new TextBoxVariable({ ...common, value: override?.[0] ?? current?.value ?? query(given) });
    case 'constant':
      return new ConstantVariable({ ...common, value: override?.[0] ?? query(given) });
    default:
      throw new Error(`variable ${name}: the type "${given.type}" is not known here`);
  }
}

/** Grafana passes over options it does not know; here they are errors, as they are most often misspelled. */
function checkFieldOptions({ id, type, fieldConfig }: Panel) {
  const known = FIELD_OPTIONS[type] ?? {};
  const used = [
    ...Object.keys(fieldConfig?.defaults.custom ?? {}),
    ...(fieldConfig?.overrides ?? []).flatMap(({ properties }) =>
      properties.filter((one) => one.id.startsWith('custom.')).map((one) => one.id.slice('custom.'.length))
    ),
  ];
  const isKnown = (option: string) => option in known || (type === 'table' && option === 'hidden');
  for (const option of used.filter((one) => !isKnown(one))) {
    errors.push(`panel-${id}: fields of a ${type} have no option custom.${option}`);
  }
}

/** Options of tables that newer Grafanas call otherwise, and move when they load a dashboard. */
function migratedTable({ options, fieldConfig }: Panel): FieldConfigSource<any> {
  const defaults: FieldConfigSource<any>['defaults'] = fieldConfig?.defaults ?? {};
  const overrides = (fieldConfig?.overrides ?? []).map((one) => ({
    ...one,
    properties: one.properties.map((property) =>
      property.id === 'custom.hidden' ? { ...property, id: 'custom.hideFrom.viz' } : property
    ),
  }));
  // There was one footer for all columns; now each column has its own.
  const old = options?.footer;
  if (!old?.show) {
    return { defaults, overrides };
  }
  const footer = { reducers: old.countRows ? ['countAll'] : (old.reducer ?? ['sum']) };
  const fields: string[] = [old.fields ?? []].flat().filter(Boolean);
  if (!fields.length) {
    return { defaults: { ...defaults, custom: { ...defaults.custom, footer } }, overrides };
  }
  const added = fields.map((name) => ({
    matcher: { id: 'byName', options: name },
    properties: [{ id: 'custom.footer', value: footer }],
  }));
  return { defaults, overrides: [...overrides, ...added] };
}

function panelData({ datasource, targets, maxDataPoints, interval, transformations }: Panel) {
  if (!targets?.length) {
    return undefined;
  }
  const runner = new SceneQueryRunner({
    datasource,
    queries: targets,
    maxDataPoints: maxDataPoints ?? undefined,
    maxDataPointsFromWidth: true,
    minInterval: interval || undefined,
  });
  return new SceneDataTransformer({ $data: runner, transformations: transformations ?? [] });
}

function TimeOverride({ timeFrom, timeShift }: Panel) {
  const told = [timeFrom && rangeUtil.describeTextRange(timeFrom).display, timeShift && `${timeShift} earlier`];
  return <span className="time-override">{told.filter(Boolean).join(', ')}</span>;
}

function item(panel: Panel): SceneGridItem {
  checkFieldOptions(panel);
  const { x, y, w: width, h: height } = panel.gridPos;
  const hasOwnTime = Boolean(panel.timeFrom || panel.timeShift);
  const body = new VizPanel({
    key: `panel-${panel.id}`,
    pluginId: panel.type,
    title: panel.title ?? '',
    description: panel.description,
    displayMode: panel.transparent ? 'transparent' : 'default',
    hoverHeader: !panel.title && !hasOwnTime,
    options: panel.options ?? {},
    fieldConfig: panel.type === 'table' ? migratedTable(panel) : (panel.fieldConfig ?? { defaults: {}, overrides: [] }),
    $timeRange: hasOwnTime ? new PanelTimeRange(panel) : undefined,
    $data: panelData(panel),
    titleItems: hasOwnTime && !panel.hideTimeOverride ? <TimeOverride {...panel} /> : undefined,
  });
  return new SceneGridItem({ x, y, width, height, body });
}

/** Panels after an open row belong to it, as in Grafana; a collapsed row carries its own. */
function layout(panels: Panel[]): SceneGridLayout {
  const children: Array<SceneGridItem | SceneGridRow> = [];
  let row: Panel | undefined;
  let inRow: Panel[] = [];
  const closeRow = () => {
    if (row) {
      const { id, title, collapsed, gridPos } = row;
      const own = (collapsed ? (row.panels ?? []) : inRow).map(item);
      children.push(new SceneGridRow({ key: `row-${id}`, title, isCollapsed: collapsed, y: gridPos.y, children: own }));
    }
    [row, inRow] = [undefined, []];
  };
  for (const panel of panels) {
    if (panel.type === 'row') {
      closeRow();
      row = panel;
    } else if (row && !row.collapsed) {
      inRow.push(panel);
    } else {
      closeRow();
      children.push(item(panel));
    }
  }
  closeRow();
  return new SceneGridLayout({ children });
}

export function scene(dashboard: Dashboard): EmbeddedScene {
  const time = task.time ?? dashboard.time ?? { from: 'now-6h', to: 'now' };
  const controls: SceneObject[] = [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({})];
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({
      ...time,
      timeZone: dashboard.timezone || 'utc',
      weekStart: dashboard.weekStart as any,
    }),
    $variables: new SceneVariableSet({ variables: (dashboard.templating?.list ?? []).map(variable) }),
    body: layout(dashboard.panels),
    controls,
  });
}
