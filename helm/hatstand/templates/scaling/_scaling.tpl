{{/* Up at once, down slowly: a new replica loads its base for minutes, and its adapters again. */}}
{{- define "hatstand.scaling.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
scaleDown:
  stabilizationWindowSeconds: {{ .downSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end }}

{{/* A gauge's mean over the servers of this release. Takes (dict "root" $ "metric" …). */}}
{{- define "hatstand.scaling.mean" -}}
avg({{ .metric }}{namespace="{{ .root.Release.Namespace }}",service="{{ include "hatstand.fullname" .root }}"})
{{- end }}
