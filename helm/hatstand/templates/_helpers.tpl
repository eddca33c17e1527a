{{/* Names, labels and the few values that several templates share. */}}

{{- define "hatstand.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/* 53 characters leave room for a suffix within the 63 that Kubernetes allows. */}}
{{- define "hatstand.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else -}}
{{- $name := include "hatstand.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a selector may hold: it can never change afterwards. Takes (dict "root" $ "component" "server"). */}}
{{- define "hatstand.selectorLabels" -}}
app.kubernetes.io/name: {{ include "hatstand.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "hatstand.labels" -}}
{{ include "hatstand.selectorLabels" . }}
app.kubernetes.io/part-of: hatstand
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hatstand.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- define "hatstand.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "hatstand.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "hatstand.keysSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-keys" (include "hatstand.fullname" .)) }}
{{- end }}

{{- define "hatstand.claim" -}}
{{- .Values.persistence.existingClaim | default (printf "%s-cache" (include "hatstand.fullname" .)) }}
{{- end }}

{{/* Every container of the chart: no root, no writable root file system, no privilege to gain. */}}
{{- define "hatstand.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
{{- end }}

{{- define "hatstand.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.securityContext }}
{{- with .runAsUser }}
runAsUser: {{ . }}
{{- end }}
{{- with .runAsGroup }}
runAsGroup: {{ . }}
{{- end }}
{{- with .fsGroup }}
fsGroup: {{ . }}
# Walking 15 GB of base on every start would take longer than reading it.
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* A value as text. Helm reads every number as a float, and 1e+06 would not parse as an integer. */}}
{{- define "hatstand.text" -}}
{{- if kindIs "float64" . -}}
{{- ternary (printf "%.0f" .) (toString .) (eq . (floor .)) }}
{{- else -}}
{{- toString . }}
{{- end }}
{{- end }}

{{/* Of the data alone: a new chart version with the same settings rolls no pod. */}}
{{- define "hatstand.checksum" -}}
{{- get (include (print .root.Template.BasePath .file) .root | fromYaml) "data" | toJson | sha256sum }}
{{- end }}

{{/* One environment variable from a Secret. Takes (dict "variable" … "secret" … "key" …). */}}
{{- define "hatstand.secretVariable" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}

{{- define "hatstand.registryName" -}}
{{ include "hatstand.fullname" . }}-registry
{{- end }}

{{/* Where the servers' registry is; empty for their own. */}}
{{- define "hatstand.registryUrl" -}}
{{- if .Values.registry.deploy.enabled -}}
http://{{ include "hatstand.registryName" . }}:{{ .Values.registry.deploy.port }}
{{- else -}}
{{ .Values.registry.url }}
{{- end }}
{{- end }}

{{/* Where fine-tuning jobs wait, for servers and workers. */}}
{{- define "hatstand.tuningQueue" -}}
{{- include "hatstand.secretVariable" (dict "variable" "HATSTAND_TUNING" "secret" .Values.worker.queue.existingSecret "key" .Values.worker.queue.secretKey) }}
{{- end }}

{{/* Resources with GPUs added, where GPUs are used: "count", or one. Takes (dict "root" $ "resources" …). */}}
{{- define "hatstand.withGpu" -}}
{{- $resources := deepCopy .resources }}
{{- if .root.Values.server.gpu.enabled }}
{{- $_ := set $resources.limits .root.Values.server.gpu.resourceName (.count | default 1) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* Taints of nodes with GPUs, and those that were named. */}}
{{- define "hatstand.tolerations" -}}
{{- if .Values.server.gpu.enabled }}
- key: {{ .Values.server.gpu.resourceName }}
  operator: Exists
  effect: NoSchedule
{{- end }}
{{- with .Values.server.tolerations }}
{{ toYaml . }}
{{- end }}
{{- end }}
