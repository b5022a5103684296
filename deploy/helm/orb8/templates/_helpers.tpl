{{/* Labels of every object. `app` is also what agents are selected by. */}}
{{- define "orb8.labels" -}}
app: {{ .Values.name }}
app.kubernetes.io/name: orb8-agent
{{ include "orb8.ownership" . }}
{{- end }}

{{/* Labels of objects that are not agents. */}}
{{- define "orb8.ownership" -}}
app.kubernetes.io/part-of: orb8
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "orb8.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Values.name }}
{{- end }}

{{- define "orb8.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{/* All addresses of the node. */}}
{{- define "orb8.anyAddress" -}}
{{ ternary "[::]" "0.0.0.0" .Values.ipv6 }}
{{- end }}

{{- define "orb8.loopback" -}}
{{ ternary "[::1]" "127.0.0.1" .Values.ipv6 }}
{{- end }}

{{/* Where metrics and probes are served. */}}
{{- define "orb8.adminAddress" -}}
{{- if .Values.metrics.expose -}}
{{ ternary "[$(HOST_IP)]" "$(HOST_IP)" .Values.ipv6 }}
{{- else -}}
{{ include "orb8.loopback" . }}
{{- end -}}
{{- end }}

{{- define "orb8.probe" -}}
{{- if not .root.Values.metrics.expose -}}
host: {{ ternary "::1" "127.0.0.1" .root.Values.ipv6 | quote }}
{{ end -}}
path: {{ .path }}
port: metrics
{{- end }}

{{/* A setting's value as a variable has it. Numbers come as floating point, which toJson writes out. */}}
{{- define "orb8.setting" -}}
{{- if kindIs "slice" . -}}
{{ join "," . }}
{{- else if kindIs "string" . -}}
{{ . }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}
