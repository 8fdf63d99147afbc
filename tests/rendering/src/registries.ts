// What Grafana's application fills at its start and its libraries then expect: registries, settings and services.
import {
  DataQueryRequest,
  DataSourceInstanceSettings,
  DataSourceRef,
  EventBusSrv,
  LoadingState,
  PanelData,
  ScopedVars,
  createTheme,
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  identityOverrideProcessor,
  locationUtil,
  numberOverrideProcessor,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  stringOverrideProcessor,
  thresholdsOverrideProcessor,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import { config, setAppEvents, setDataSourceSrv, setPluginImportUtils, setRunRequest } from '@grafana/runtime';
import { sceneUtils } from '@grafana/scenes';
import { Observable, catchError, map, of } from 'rxjs';
import { task } from './dashboard';
import { Prometheus, UID, interpolate } from './prometheus';

const nothing = () => null;

/** What Grafana takes where a panel says nothing. */
const THRESHOLDS = [
  { value: -Infinity, color: 'green' },
  { value: 80, color: 'red' },
];

function standardOption(id: string, process: any, defaultValue?: unknown) {
  const common = { id, path: id, name: id, editor: nothing, override: nothing, settings: {} };
  return { ...common, process, defaultValue, shouldApply: () => true, getItemsCount: () => 0 };
}

function registerFieldOptions() {
  const options = [
    standardOption('unit', unitOverrideProcessor),
    standardOption('min', numberOverrideProcessor),
    standardOption('max', numberOverrideProcessor),
    standardOption('fieldMinMax', identityOverrideProcessor),
    standardOption('decimals', numberOverrideProcessor),
    standardOption('displayName', displayNameOverrideProcessor),
    standardOption('noValue', stringOverrideProcessor),
    standardOption('color', identityOverrideProcessor, { mode: 'thresholds' }),
    standardOption('thresholds', thresholdsOverrideProcessor, { mode: 'absolute', steps: THRESHOLDS }),
    standardOption('mappings', valueMappingsOverrideProcessor, []),
    standardOption('links', dataLinksOverrideProcessor),
    standardOption('actions', identityOverrideProcessor),
    standardOption('filterable', identityOverrideProcessor),
    standardOption('description', identityOverrideProcessor),
  ];
  standardFieldConfigEditorRegistry.setInit(() => options as any);
}

function registerTransformations() {
  const byId = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
  const items = [...byId.values()].map((one) => {
    const common = { id: one.id, name: one.name, editor: nothing, imageDark: '', imageLight: '' };
    return { ...common, transformation: async () => one };
  });
  standardTransformersRegistry.setInit(() => items as any);
}

export const source = new Prometheus();

/** The one data source, by its uid or by the variable that stands for it; any other is an error. */
function registerDataSource() {
  const info = { logos: { small: '', large: '' } };
  const settings = {
    uid: UID,
    name: 'Prometheus',
    type: 'prometheus',
    isDefault: true,
    meta: { id: 'prometheus', name: 'Prometheus', info },
    jsonData: {},
  } as unknown as DataSourceInstanceSettings;
  const find = (ref: DataSourceRef | string | null | undefined, scopedVars?: ScopedVars) => {
    const uid = interpolate((typeof ref === 'string' ? ref : ref?.uid) ?? '', scopedVars);
    if (uid !== UID) {
      throw new Error(`there is no data source "${uid}"`);
    }
  };
  sceneUtils.registerRuntimeDataSource({ dataSource: source });
  setDataSourceSrv({
    getList: (filters: any) => (filters?.pluginId && filters.pluginId !== 'prometheus' ? [] : [settings]),
    getInstanceSettings: () => settings,
    get: async (ref: any, scopedVars?: ScopedVars) => {
      find(ref, scopedVars);
      return source;
    },
    reload: nothing,
    registerRuntimeDataSource: nothing,
  } as any);
}

function runRequest(source: any, request: DataQueryRequest): Observable<PanelData> {
  const common = { request, timeRange: request.range };
  return source.query(request).pipe(
    map(({ data }: any) => ({ ...common, series: data, state: LoadingState.Done })),
    catchError((error) =>
      of({ ...common, series: [], state: LoadingState.Error, errors: [{ message: String(error.message ?? error) }] })
    )
  );
}

export const theme = createTheme({ colors: { mode: task.theme } });

export function fillRegistries() {
  const user = { timezone: 'utc', weekStart: 'monday', theme: task.theme };
  Object.assign(config, { theme2: theme, bootData: { user, settings: {} }, appSubUrl: '' });
  locationUtil.initialize({
    config: { appSubUrl: '' } as any,
    getTimeRangeForUrl: () => ({ from: task.dashboard.time?.from ?? 'now-6h', to: task.dashboard.time?.to ?? 'now' }),
    getVariablesUrlParams: () => ({}),
  });
  registerFieldOptions();
  registerTransformations();
  registerDataSource();
  setAppEvents(new EventBusSrv());
  setRunRequest(runRequest as any);
  setPluginImportUtils({
    importPanelPlugin: async (id: string) => {
      throw new Error(`panels of the type "${id}" are not drawn here`);
    },
    getPanelPluginFromCache: () => undefined,
  } as any);
}
