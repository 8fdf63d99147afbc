{{- define "anthropic-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "anthropic-exporter.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What all pods of the release share. */}}
{{- define "anthropic-exporter.releaseLabels" -}}
app.kubernetes.io/name: {{ include "anthropic-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of the exporter only: the pod of `helm test` must not get the Service's requests. */}}
{{- define "anthropic-exporter.selectorLabels" -}}
{{ include "anthropic-exporter.releaseLabels" . }}
app.kubernetes.io/component: exporter
{{- end }}

{{- define "anthropic-exporter.labels" -}}
{{ include "anthropic-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "anthropic-exporter.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "anthropic-exporter.fullname" .) "default") .Values.serviceAccount.name }}
{{- end }}

{{- define "anthropic-exporter.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* What no schema can say. */}}
{{- define "anthropic-exporter.check" -}}
{{- $key := .Values.adminApiKey }}
{{- if and $key.existingSecret $key.value }}
{{- fail "adminApiKey: existingSecret and value are both set; remove one of them" }}
{{- else if not (or $key.existingSecret $key.value) }}
{{- fail "adminApiKey: there is no key; set existingSecret to the name of a Secret that holds it under admin-api-key" }}
{{- end }}
{{- $web := .Values.web }}
{{- if and $web.existingSecret $web.config }}
{{- fail "web: existingSecret and config are both set; remove one of them" }}
{{- else if and $web.tlsSecret (not (or $web.existingSecret $web.config)) }}
{{- fail "web: tlsSecret is mounted, but nothing uses it; name its files in config.tls_server_config" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "ANTHROPIC_" .name }}{{ fail (printf "extraEnv: %s is the chart's to set; use adminApiKey, settings or web" .name) }}{{ end }}
{{- end }}
{{- end }}

{{/* The files of the ConfigMap. */}}
{{- define "anthropic-exporter.config" -}}
{{- $files := dict "config.toml" (toToml (default dict .Values.settings)) }}
{{- with .Values.prices }}{{ $_ := set $files "prices.toml" . }}{{ end }}
{{- toYaml $files }}
{{- end }}

{{- define "anthropic-exporter.hasWebConfig" -}}
{{- if or .Values.web.existingSecret .Values.web.config }}true{{ end }}
{{- end }}

{{- define "anthropic-exporter.env" -}}
- {name: ANTHROPIC_ADMIN_API_KEY_FILE, value: /etc/anthropic-exporter/key/admin-api-key}
- {name: ANTHROPIC_EXPORTER_CONFIG_FILE, value: /etc/anthropic-exporter/config/config.toml}
{{- if .Values.prices }}
- {name: ANTHROPIC_EXPORTER_PRICES_FILE, value: /etc/anthropic-exporter/config/prices.toml}
{{- end }}
- {name: ANTHROPIC_EXPORTER_STATE_PATH, value: /data/anthropic-exporter.db}
- {name: ANTHROPIC_EXPORTER_WEB_LISTEN_ADDRESS, value: {{ printf "%s:10017" .Values.web.listenHost | quote }}}
{{- if include "anthropic-exporter.hasWebConfig" . }}
- {name: ANTHROPIC_EXPORTER_WEB_CONFIG_FILE, value: /etc/anthropic-exporter/web/web-config.yml}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Whole directories: a subPath would never see a new key, certificate or password. */}}
{{- define "anthropic-exporter.volumeMounts" -}}
- {name: config, mountPath: /etc/anthropic-exporter/config, readOnly: true}
- {name: key, mountPath: /etc/anthropic-exporter/key, readOnly: true}
{{- if include "anthropic-exporter.hasWebConfig" . }}
- {name: web, mountPath: /etc/anthropic-exporter/web, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "anthropic-exporter.volumes" -}}
{{- $full := include "anthropic-exporter.fullname" . -}}
- name: config
  configMap: {name: {{ $full }}}
- name: key
  secret:
    secretName: {{ default (printf "%s-key" $full) .Values.adminApiKey.existingSecret | quote }}
    items: [{key: {{ .Values.adminApiKey.secretKey | quote }}, path: admin-api-key}]
    defaultMode: 0440
{{- if include "anthropic-exporter.hasWebConfig" . }}
- name: web
  projected:
    sources:
      - secret: {name: {{ default (printf "%s-web" $full) .Values.web.existingSecret | quote }}}
      {{- with .Values.web.tlsSecret }}
      - secret: {name: {{ quote . }}}
      {{- end }}
    defaultMode: 0440
{{- end }}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the exporter's pod and those of `helm test` have in common. */}}
{{- define "anthropic-exporter.pod" -}}
serviceAccountName: {{ include "anthropic-exporter.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" }}
{{- with index $.Values $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The same of their containers. */}}
{{- define "anthropic-exporter.container" -}}
image: {{ include "anthropic-exporter.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}
