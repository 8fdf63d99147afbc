// Grafana's server writes this into its page, and the libraries read it while they are loaded: so this comes first.
Object.assign(window, {
  __grafana_public_path__: 'public/',
  grafanaBootData: { settings: {}, user: { timezone: 'utc', weekStart: 'monday' }, navTree: [] },
});
