// A Prometheus data source with the rules of Grafana's own: steps, $__rate_interval, frames and variable queries.
import {
  DataFrame,
  DataQueryRequest,
  DataQueryResponse,
  Field,
  FieldType,
  LoadingState,
  MetricFindValue,
  ScopedVars,
  TimeRange,
  createDataFrame,
  rangeUtil,
} from '@grafana/data';
import { RuntimeDataSource, SceneObject, VizPanel, sceneGraph } from '@grafana/scenes';
import { Observable, from } from 'rxjs';
import { Annotation, Query, Target, errors, queries, task } from './dashboard';

export const UID = 'the-prometheus';
const MAX_POINTS = 11000;

interface Series {
  metric: Record<string, string>;
  value?: [number, string];
  values?: Array<[number, string]>;
}

interface Interpolation {
  name: string;
  multi?: boolean;
  includeAll?: boolean;
}

/** Seconds of "5m", or of nothing at all. */
const seconds = (duration: string | undefined) => (duration ? rangeUtil.intervalToMs(duration) / 1000 : 0);
const escapeRegex = (value: string) => value.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&');
const escapePlain = (value: string) => value.replace(/\\/g, '\\\\').replace(/'/g, "\\\\'");

function formatVariable(value: unknown, variable: Interpolation): string {
  if (typeof value === 'string') {
    return variable.multi || variable.includeAll ? escapeRegex(value) : escapePlain(value);
  }
  if (Array.isArray(value)) {
    const escaped = value.map((one) => escapeRegex(String(one)));
    return escaped.length === 1 ? escaped[0] : `(${escaped.join('|')})`;
  }
  return String(value);
}

function sceneObject(scopedVars?: ScopedVars): SceneObject | undefined {
  return scopedVars?.__sceneObject?.value?.valueOf() as SceneObject | undefined;
}

/** The panel or the variable a query is made for. */
function owner(scopedVars?: ScopedVars): string {
  for (let object = sceneObject(scopedVars); object; object = object.parent) {
    if (object instanceof VizPanel) {
      return String(object.state.key);
    }
    if ('name' in object.state) {
      return `variable ${object.state.name}`;
    }
  }
  return 'dashboard';
}

export function interpolate(text: string, scopedVars?: ScopedVars): string {
  const object = sceneObject(scopedVars);
  return object ? sceneGraph.interpolate(object, text, scopedVars, formatVariable as any) : text;
}

/** Seconds between two points: never less than the min step, never more points than Prometheus gives. */
function stepOf(target: Target, request: DataQueryRequest<any>, minStep: string | undefined): number {
  const span = (request.range.to.valueOf() - request.range.from.valueOf()) / 1000;
  const least = seconds(minStep) || request.intervalMs / 1000;
  const wanted = rangeUtil.roundInterval((span * 1000) / (request.maxDataPoints ?? 1500)) / 1000;
  const safe = rangeUtil.roundInterval((span * 1000) / MAX_POINTS) / 1000;
  return Math.max(least, wanted, safe) * (target.intervalFactor || 1);
}

function macros(step: number, minStep: string | undefined, range: number): Record<string, string> {
  const scrape = seconds(minStep) || seconds(task.scrapeInterval);
  const rate = Math.max(step + scrape, 4 * scrape);
  return {
    __interval_ms: String(step * 1000),
    __interval: `${step}s`,
    __rate_interval_ms: String(rate * 1000),
    __rate_interval: `${rate}s`,
    __range_ms: String(range * 1000),
    __range_s: String(range),
    __range: `${range}s`,
  };
}

function replaceMacros(expr: string, values: Record<string, string>): string {
  return expr.replace(/\$(__\w+)|\$\{(__\w+)\}/g, (whole, plain, braced) => values[plain ?? braced] ?? whole);
}

const points = (series: Series) => series.values ?? [series.value!];
const number = (text: string) => ({ '+Inf': Infinity, '-Inf': -Infinity })[text] ?? Number(text);

function legend(target: Target, series: Series, scopedVars: ScopedVars): string | undefined {
  const format = target.legendFormat;
  if (format === '__auto') {
    return Object.keys(series.metric).length ? undefined : target.expr;
  }
  if (format) {
    return interpolate(
      format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => series.metric[label] ?? ''),
      scopedVars
    );
  }
  const { __name__ = '', ...labels } = series.metric;
  return `${__name__}{${Object.entries(labels)
    .map(([name, value]) => `${name}="${value}"`)
    .join(', ')}}`;
}

/** One frame for each series, as graphs and stats want them. */
function seriesFrames(target: Target, result: Series[], step: number, scopedVars: ScopedVars): DataFrame[] {
  return result.map((series) => {
    const name = legend(target, series, scopedVars);
    const time = { name: 'Time', type: FieldType.time, values: points(series).map(([at]) => at * 1000) };
    return createDataFrame({
      refId: target.refId,
      name,
      fields: [
        { ...time, config: { interval: step * 1000 } },
        {
          name: 'Value',
          type: FieldType.number,
          labels: series.metric,
          config: { displayNameFromDS: name },
          values: points(series).map(([, value]) => number(value)),
        },
      ],
    });
  });
}

/** One frame for all series: a column for each label, and the value's is called after the query if there are more. */
function tableFrame(target: Target, result: Series[], valueName: string): DataFrame {
  const labels = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].sort();
  const rows = result.flatMap((series) => points(series).map(([at, value]) => ({ metric: series.metric, at, value })));
  const columns: Array<Partial<Field> & { name: string }> = labels.map((label) => ({
    name: label,
    type: FieldType.string,
    config: { filterable: true },
    values: rows.map((row) => row.metric[label] ?? ''),
  }));
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: rows.map((row) => row.at * 1000) },
      ...columns,
      { name: valueName, type: FieldType.number, values: rows.map((row) => number(row.value)) },
    ],
  });
}

export class Prometheus extends RuntimeDataSource<any> {
  constructor() {
    super('prometheus', UID);
    this.interval = task.scrapeInterval;
  }

  query(request: DataQueryRequest<any>): Observable<DataQueryResponse> {
    return from(this.run(request));
  }

  async testDatasource() {
    return { status: 'success', message: 'ok' };
  }

  async metricFindQuery(query: any, options?: any): Promise<MetricFindValue[]> {
    const asked: string = typeof query === 'string' ? query : query.query;
    const text = interpolate(asked, options?.scopedVars).trim();
    const of = owner(options?.scopedVars);
    const range = options?.range;
    const span = range
      ? { start: String(range.from.valueOf() / 1000), end: String(range.to.valueOf() / 1000) }
      : undefined;

    const values = /^label_values\((?:(.+),\s*)?([a-zA-Z_]\w*)\)$/s.exec(text);
    if (values) {
      const match: Record<string, string> = values[1] ? { 'match[]': values[1] } : {};
      const found: string[] = await this.get(of, `label/${values[2]}/values`, { ...match, ...span });
      return found.map((value) => ({ text: value }));
    }
    const result = /^query_result\((.+)\)$/s.exec(text);
    if (result) {
      const length = range ? Math.round((range.to.valueOf() - range.from.valueOf()) / 1000) : 0;
      const expr = replaceMacros(result[1], macros(length, undefined, length));
      const found = await this.get(of, 'query', { query: expr, ...(span && { time: span.end }) });
      return (found.result as Series[]).map(({ metric: { __name__ = '', ...labels }, value }) => {
        const pairs = Object.entries(labels).map(([name, label]) => `${name}="${label}"`);
        return { text: `${__name__}{${pairs.join(',')}} ${value![1]} ${value![0] * 1000}` };
      });
    }
    errors.push(`${of}: a query this data source does not know: ${text}`);
    return [];
  }

  /** Run an annotation's query: annotations are not drawn, but they should not fail. */
  async annotate(annotation: Annotation, range: TimeRange, scopedVars: ScopedVars): Promise<void> {
    const of = `annotation ${annotation.name}`;
    const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
    const step = Math.max(60, Math.ceil((end - start) / 1000));
    const expr = replaceMacros(annotation.expr ?? '', macros(step, undefined, Math.round(end - start)));
    const times = { start: String(start), end: String(end), step: String(step) };
    await this.get(of, 'query_range', { query: interpolate(expr, scopedVars), ...times });
  }

  private async run(request: DataQueryRequest<any>): Promise<DataQueryResponse> {
    const targets: Target[] = request.targets.filter((target) => !target.hide && target.expr);
    const tables = targets.filter((target) => target.format === 'table').length;
    const answers = targets.map(async (target) => {
      const [result, step] = await this.runTarget(target, request);
      return target.format === 'table'
        ? [tableFrame(target, result, tables > 1 ? `Value #${target.refId}` : 'Value')]
        : seriesFrames(target, result, step, request.scopedVars);
    });
    return { data: (await Promise.all(answers)).flat(), state: LoadingState.Done, key: request.requestId };
  }

  private async runTarget(target: Target, request: DataQueryRequest<any>): Promise<[Series[], number]> {
    const { scopedVars, range } = request;
    const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
    const minStep = target.interval ? interpolate(target.interval, scopedVars) : undefined;
    const step = stepOf(target, request, minStep);
    const span = Math.round(end - start);
    const query = interpolate(replaceMacros(target.expr, macros(step, minStep, span)), scopedVars);
    const of = owner(scopedVars);
    if (target.instant) {
      return [(await this.get(of, 'query', { query, time: String(end) })).result, step];
    }
    const aligned = (time: number) => String(Math.floor(time / step) * step);
    const times = { start: aligned(start), end: aligned(end), step: String(step) };
    return [(await this.get(of, 'query_range', { query, ...times })).result, step];
  }

  private async get(of: string, path: string, parameters: Record<string, string>): Promise<any> {
    const expr = parameters.query ?? parameters['match[]'] ?? '';
    const note: Query = { of, path, expr, step: Number(parameters.step) || undefined, seconds: 0, results: 0 };
    queries.push(note);
    try {
      const asked = new URLSearchParams({ ...parameters, stats: 'all' });
      const response = await fetch(`${task.prometheus}/api/v1/${path}?${asked}`);
      const { status, error, data } = await response.json();
      if (status !== 'success') {
        throw new Error(error);
      }
      if (data.resultType === 'scalar') {
        data.result = [{ metric: {}, value: data.result }];
      }
      const { execTotalTime = 0, execQueueTime = 0 } = data.stats?.timings ?? {};
      Object.assign(note, { results: (data.result ?? data).length, seconds: execTotalTime - execQueueTime });
      return data;
    } catch (error) {
      note.error = String(error);
      throw error;
    }
  }
}
