{{/*
What no schema can say: values that are each right and together wrong. The deployment includes
this first, so that nothing of such a release is ever rendered.
*/}}
{{- define "hatstand.checks" -}}
{{- with .Values.auth }}
{{- if not (or .keys .existingSecret .insecure) }}
{{- fail "auth: the server refuses to serve other machines without API keys. Give auth.existingSecret (or auth.keys for a trial), or say auth.insecure=true if something in front of the Service checks who calls." }}
{{- end }}
{{- if and .keys .existingSecret }}
{{- fail "auth: auth.keys and auth.existingSecret both hold the API keys: give one." }}
{{- end }}
{{- if and .insecure (or .keys .existingSecret) }}
{{- fail "auth: auth.insecure=true means no keys, and keys are given too: take one of them away." }}
{{- end }}
{{- end }}
{{- with .Values.persistence }}
{{- if and (eq $.Values.server.strategy "RollingUpdate") .enabled (ne .accessMode "ReadWriteMany") }}
{{- fail (printf "server.strategy: RollingUpdate runs two pods for a while, and persistence.accessMode %s lets only one mount the volume: use Recreate or ReadWriteMany." .accessMode) }}
{{- end }}
{{- end }}
{{- with .Values.serviceMonitor }}
{{- if gt (int .timeoutSeconds) (int .intervalSeconds) }}
{{- fail (printf "serviceMonitor.timeoutSeconds: %d is longer than the interval of %d seconds." (int .timeoutSeconds) (int .intervalSeconds)) }}
{{- end }}
{{- end }}
{{- end }}
