// The parts of Grafana's classic dashboard JSON that are drawn, and what the page is given and gives back.
import { DataSourceRef, DataTransformerConfig, FieldConfigSource } from '@grafana/data';

export interface Target {
  refId: string;
  expr: string;
  datasource?: DataSourceRef;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  legendFormat?: string;
  interval?: string;
  intervalFactor?: number;
  hide?: boolean;
}

export interface Panel {
  id: number;
  type: string;
  title?: string;
  description?: string;
  transparent?: boolean;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource?: DataSourceRef;
  targets?: Target[];
  maxDataPoints?: number;
  interval?: string;
  timeFrom?: string;
  timeShift?: string;
  hideTimeOverride?: boolean;
  transformations?: DataTransformerConfig[];
  options?: Record<string, any>;
  fieldConfig?: FieldConfigSource<any>;
  collapsed?: boolean;
  panels?: Panel[];
}

export interface Variable {
  name: string;
  type: string;
  label?: string;
  hide?: number;
  query?: any;
  regex?: string;
  refresh?: number;
  sort?: number;
  multi?: boolean;
  includeAll?: boolean;
  allValue?: string;
  auto?: boolean;
  auto_count?: number;
  auto_min?: string;
  datasource?: DataSourceRef;
  current?: { value?: any; text?: any };
  options?: Array<{ value: string }>;
}

export interface Annotation {
  name: string;
  enable?: boolean;
  expr?: string;
  datasource?: DataSourceRef;
}

export interface Dashboard {
  title: string;
  time?: { from: string; to: string };
  timezone?: string;
  weekStart?: string;
  panels: Panel[];
  templating?: { list: Variable[] };
  annotations?: { list: Annotation[] };
}

/** What the page is asked to draw. */
export interface Task {
  dashboard: Dashboard;
  prometheus: string;
  scrapeInterval: string;
  theme: 'dark' | 'light';
  time?: { from: string; to: string };
  variables: Record<string, string[]>;
}

export interface Query {
  of: string;
  path: string;
  expr: string;
  step?: number;
  seconds: number;
  results: number;
  error?: string;
}

export interface PanelNote {
  id: number;
  title: string;
  note?: string;
}

/** What the page tells when everything is drawn. */
export interface Report {
  settled: boolean;
  /** Panels that are still busy, while the page is not settled. */
  waiting: string[];
  panels: number;
  errors: string[];
  queries: Query[];
  failed: PanelNote[];
  /** Panels without any data. */
  empty: PanelNote[];
  /** The same, where the panel says with `noValue` what it shows then. */
  emptyOnPurpose: PanelNote[];
  /** Figures, titles and labels that cannot be read whole. */
  clipped: PanelNote[];
  /** Names in tables that cannot be read whole, and legends that have to be scrolled. */
  shortened: PanelNote[];
  /** Legends that leave too little room for their graph. */
  legends: PanelNote[];
  /** Seconds the server took for each panel's slowest query. */
  serverSeconds: Record<string, number>;
  variables: Record<string, unknown>;
}

declare global {
  interface Window {
    rendering: Task;
    report?: () => Report;
    /** Why there will be no report. */
    broken?: string;
  }
}

export const task = window.rendering;

/** Errors and queries as they come: the report repeats them. */
export const errors: string[] = [];
export const queries: Query[] = [];

/** The panels on the page, without the rows around them and without those in a collapsed row. */
export function visiblePanels(dashboard: Dashboard): Panel[] {
  return dashboard.panels.flatMap((panel) => {
    if (panel.type !== 'row') {
      return panel;
    }
    return panel.collapsed ? [] : (panel.panels ?? []);
  });
}
