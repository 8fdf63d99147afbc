// The panel types. Grafana's application has them, its libraries have the components: what is between is written here.
import {
  DataFrame,
  Field,
  FieldConfigProperty,
  FieldDisplay,
  FieldType,
  PanelPlugin,
  PanelProps,
  VizOrientation,
  cacheFieldDisplayNames,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  renderTextPanelMarkdown,
} from '@grafana/data';
import { sceneUtils } from '@grafana/scenes';
import { BarGauge, BigValue, TimeSeries, VizRepeater, useTheme2 } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { ComponentType, useMemo } from 'react';

type Props = PanelProps<any>;

const NO_DATA = 'No data';

/** The options a field may have in `custom`, with the value Grafana's panels start with. */
const TIME_SERIES_FIELD = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  barAlignment: 0,
  barWidthFactor: 0.6,
  barMaxWidth: undefined,
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  fillBelowTo: undefined,
  lineColor: undefined,
  lineStyle: { fill: 'solid' },
  spanNulls: false,
  insertNulls: false,
  showPoints: 'auto',
  showValues: false,
  pointSize: 5,
  stacking: { mode: 'none', group: 'A' },
  transform: undefined,
  axisPlacement: 'auto',
  axisLabel: '',
  axisWidth: undefined,
  axisSoftMin: undefined,
  axisSoftMax: undefined,
  axisGridShow: undefined,
  axisCenteredZero: false,
  axisColorMode: 'text',
  axisBorderShow: false,
  scaleDistribution: { type: 'linear' },
  thresholdsStyle: { mode: 'off' },
  hideFrom: { tooltip: false, legend: false, viz: false },
};
const TABLE_FIELD = {
  width: undefined,
  minWidth: 50,
  align: 'auto',
  cellOptions: { type: 'auto' },
  inspect: false,
  filterable: false,
  'hideFrom.viz': undefined,
  wrapHeaderText: undefined,
  footer: undefined,
  tooltip: undefined,
};
const NO_FIELD = {};

export const FIELD_OPTIONS: Record<string, Record<string, unknown>> = {
  timeseries: TIME_SERIES_FIELD,
  table: TABLE_FIELD,
  stat: NO_FIELD,
  bargauge: NO_FIELD,
  text: NO_FIELD,
};

/** What Grafana's panels of single values show: a reduced value for each series, or all values of a table. */
function useFieldDisplays(props: Props, sparkline: boolean): FieldDisplay[] {
  const { data, fieldConfig, replaceVariables, timeZone, options } = props;
  const theme = useTheme2();
  return useMemo(() => {
    const reduceOptions = { values: false, calcs: ['lastNotNull'], ...options.reduceOptions };
    const common = { fieldConfig, replaceVariables, timeZone, theme, reduceOptions, sparkline };
    return getFieldDisplayValues({ ...common, data: data.series });
  }, [data, fieldConfig]);
}

/** A bar that is alone has no name, unless it was given one. */
function withoutLoneName(values: FieldDisplay[]): FieldDisplay[] {
  const [first, ...others] = values;
  const isNamed = others.length > 0 || !first || first.field.displayName;
  return isNamed ? values : [{ ...first, display: { ...first.display, title: undefined } }];
}

function Stat(props: Props) {
  const { data, options, timeRange, width, height, renderCounter } = props;
  const theme = useTheme2();
  const hasGraph = (options.graphMode ?? 'area') !== 'none';
  const values = useFieldDisplays(props, hasGraph);
  return (
    <VizRepeater
      getValues={() => values}
      getAlignmentFactors={(all) => getDisplayValueAlignmentFactors(all)}
      renderValue={({ value, width, height, count, alignmentFactors }) => (
        <BigValue
          theme={theme}
          value={value.display}
          count={count}
          sparkline={hasGraph && value.sparkline ? { ...value.sparkline, timeRange } : undefined}
          width={width}
          height={height}
          alignmentFactors={alignmentFactors}
          colorMode={options.colorMode ?? 'value'}
          graphMode={options.graphMode ?? 'area'}
          justifyMode={options.justifyMode ?? 'auto'}
          textMode={options.textMode ?? 'auto'}
          text={options.text}
          percentChangeColorMode={options.percentChangeColorMode}
          disableWideLayout={!(options.wideLayout ?? true)}
        />
      )}
      source={data}
      width={width}
      height={height}
      itemSpacing={3}
      renderCounter={renderCounter}
      autoGrid
      orientation={options.orientation ?? VizOrientation.Auto}
    />
  );
}

function Bars(props: Props) {
  const { data, options, width, height, renderCounter } = props;
  const theme = useTheme2();
  const values = withoutLoneName(useFieldDisplays(props, false));
  const auto = width > height ? VizOrientation.Vertical : VizOrientation.Horizontal;
  const asked = options.orientation ?? VizOrientation.Auto;
  return (
    <VizRepeater
      getValues={() => values}
      getAlignmentFactors={(all) => getDisplayValueAlignmentFactors(all)}
      renderValue={({ value, width, height, orientation, alignmentFactors }) => (
        <BarGauge
          theme={theme}
          value={value.display}
          display={value.view?.getFieldDisplayProcessor(value.colIndex!)}
          field={value.field}
          width={width}
          height={height}
          orientation={orientation}
          alignmentFactors={alignmentFactors}
          text={options.text}
          itemSpacing={options.displayMode === 'lcd' ? 2 : 10}
          lcdCellWidth={12}
          displayMode={options.displayMode ?? 'gradient'}
          showUnfilled={options.showUnfilled ?? true}
          valueDisplayMode={options.valueMode ?? 'color'}
          namePlacement={options.namePlacement ?? 'auto'}
        />
      )}
      source={data}
      width={width}
      height={height}
      itemSpacing={options.displayMode === 'lcd' ? 2 : 10}
      renderCounter={renderCounter}
      minVizWidth={options.minVizWidth ?? 8}
      minVizHeight={options.minVizHeight ?? 16}
      maxVizHeight={options.maxVizHeight ?? 300}
      orientation={asked === VizOrientation.Auto ? auto : asked}
    />
  );
}

function NoData({ fieldConfig }: Props) {
  return <div className="no-data">{fieldConfig.defaults.noValue ?? NO_DATA}</div>;
}

const has = (frame: DataFrame, type: FieldType) => frame.fields.some((field) => field.type === type);

function Graph(props: Props) {
  const { data, options, timeRange, timeZone, width, height } = props;
  const frames = useMemo(() => {
    const graphable = data.series.filter((one) => one.length && has(one, FieldType.time) && has(one, FieldType.number));
    cacheFieldDisplayNames(graphable);
    return graphable;
  }, [data.series]);
  const legend = { showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [], ...options.legend };
  if (!frames.length) {
    return <NoData {...props} />;
  }
  return (
    <TimeSeries
      frames={frames}
      structureRev={data.structureRev}
      timeRange={timeRange}
      timeZone={timeZone}
      width={width}
      height={height}
      legend={legend}
      options={options}
    />
  );
}

function Table(props: Props) {
  const { data, options, fieldConfig, timeRange, width, height } = props;
  const frame = useMemo(() => {
    cacheFieldDisplayNames(data.series);
    return data.series[options.frameIndex ?? 0];
  }, [data.series, options.frameIndex]);
  if (!frame?.fields.length) {
    return <NoData {...props} />;
  }
  return (
    <TableNG
      data={frame}
      width={width}
      height={height}
      noHeader={options.showHeader === false}
      cellHeight={options.cellHeight ?? 'sm'}
      sortBy={options.sortBy}
      enablePagination={options.enablePagination}
      frozenColumns={options.frozenColumns?.left}
      noValue={fieldConfig.defaults.noValue}
      fieldConfig={fieldConfig}
      structureRev={data.structureRev}
      timeRange={timeRange}
      disableKeyboardEvents
    />
  );
}

function Text({ options, replaceVariables, height }: Props) {
  const content = replaceVariables(options.content ?? '', {}, options.mode === 'html' ? 'html' : undefined);
  const html = options.mode === 'html' ? content : renderTextPanelMarkdown(content);
  return <div className="markdown-html text-panel" style={{ height }} dangerouslySetInnerHTML={{ __html: html }} />;
}

function register(pluginId: string, component: ComponentType<Props>) {
  const nothing = () => null;
  const color = { [FieldConfigProperty.Color]: { defaultValue: { mode: 'palette-classic' } } };
  const plugin = new PanelPlugin(component).useFieldConfig({
    standardOptions: pluginId === 'timeseries' ? color : {},
    useCustomConfig: (builder) => {
      for (const [path, defaultValue] of Object.entries(FIELD_OPTIONS[pluginId])) {
        const common = { id: path, path, name: path, editor: nothing, override: nothing, settings: {}, defaultValue };
        // What is said of axes is said of the values' axes, not of the time's.
        const shouldApply = (field: Field) => !(path.startsWith('axis') && field.type === FieldType.time);
        builder.addCustomEditor({ ...common, process: (value: any) => value, shouldApply } as any);
      }
    },
  });
  sceneUtils.registerRuntimePanelPlugin({ pluginId, plugin });
}

export function registerPanels() {
  register('stat', Stat);
  register('bargauge', Bars);
  register('timeseries', Graph);
  register('table', Table);
  register('text', Text);
}
