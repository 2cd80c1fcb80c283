{{- define "belay.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "belay.selector" -}}
app.kubernetes.io/name: belay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "belay.labels" -}}
{{ include "belay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "belay.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What the operator may do where Migrations are. Everything else is out of its reach. */ -}}
{{- define "belay.rules" -}}
- apiGroups: [belay.dev]
  resources: [migrations, postgresdatabases, postgresbackups]
  verbs: [list, watch]
# A finalizer while a run is in progress, and while a backup's data are there to be deleted.
- apiGroups: [belay.dev]
  resources: [migrations, postgresbackups]
  verbs: [get, patch]
- apiGroups: [belay.dev]
  resources: [migrations/status, postgresdatabases/status, postgresbackups/status]
  verbs: [patch]
# Backups below runs; older ones than a Database keeps.
- apiGroups: [belay.dev]
  resources: [postgresbackups]
  verbs: [create, delete]
# Connections. Never listed, never watched.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# Scripts, and certificate authorities. Watched by their metadata.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Backups and health checks run in Jobs; the Pods say why one failed.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# What health checks look at.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get]
- apiGroups: [""]
  resources: [services]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
