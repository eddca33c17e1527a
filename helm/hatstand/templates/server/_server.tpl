{{/* The parts of the server's pod that are worked out rather than written down. */}}

{{/* Arguments of `hatstand serve`, as a YAML list. */}}
{{- define "hatstand.server.args" -}}
- serve
- --base={{ .Values.base.name }}
- --device={{ ternary "cuda" "cpu" .Values.server.gpu.enabled }}
- --host=0.0.0.0
- --port={{ int .Values.server.port }}
- --drain-timeout={{ int .Values.server.drain.timeoutSeconds }}
{{- if .Values.auth.insecure }}
- --insecure
{{- end }}
{{- with include "hatstand.registryUrl" . }}
- --registry={{ . }}
{{- end }}
{{- if .Values.worker.enabled }}
- --fine-tuning
{{- end }}
{{- range $name, $value := .Values.server.options }}
{{- if kindIs "bool" $value }}
- {{ printf "--%s%s" (ternary "" "no-" $value) $name }}
{{- else }}
{{- range (kindIs "slice" $value | ternary $value (list $value)) }}
- {{ printf "--%s=%s" $name (include "hatstand.text" .) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the server is told in secret: whose requests it takes, and how it reads the registry. */}}
{{- define "hatstand.server.secrets" -}}
{{- if not .Values.auth.insecure }}
{{- include "hatstand.secretVariable" (dict "variable" "HATSTAND_API_KEYS" "secret" (include "hatstand.keysSecret" .) "key" .Values.auth.secretKey) }}
{{ end }}
{{- if .Values.worker.enabled }}
{{- include "hatstand.tuningQueue" . }}
{{ end }}
{{- if and .Values.registry.existingSecret (include "hatstand.registryUrl" .) }}
{{- include "hatstand.secretVariable" (dict "variable" "HATSTAND_REGISTRY_KEY" "secret" .Values.registry.existingSecret "key" .Values.registry.secretKey) }}
{{- end }}
{{- end }}

{{/* Resources of one container. The GPU goes to the server alone: "gpu" true. */}}
{{- define "hatstand.server.resources" -}}
{{- if .gpu }}
{{- include "hatstand.withGpu" (dict "root" .root "resources" .root.Values.server.resources) }}
{{- else }}
{{- toYaml .root.Values.server.resources }}
{{- end }}
{{- end }}

{{/* preStop sleep, then the server's own drain, then room to close sockets and flush. */}}
{{- define "hatstand.server.gracePeriod" -}}
{{- with .Values.server.drain }}
{{- add .endpointSeconds .timeoutSeconds 10 }}
{{- end }}
{{- end }}

{{- define "hatstand.server.volumeMounts" -}}
- name: cache
  mountPath: /var/lib/hatstand
- name: tmp
  mountPath: /tmp
{{- end }}
