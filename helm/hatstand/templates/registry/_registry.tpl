{{/* "true" where catalog and bytes are elsewhere: pods then come and go as they like. */}}
{{- define "hatstand.registry.isStateless" -}}
{{- with .Values.registry.deploy }}
{{- if and .database.existingSecret .blobs.url }}true{{ end }}
{{- end }}
{{- end }}

{{/*
What the registry's containers share. Takes (dict "root" $ "key" …): the Secret's key with the
token that HATSTAND_REGISTRY_KEY is to be, if any.
*/}}
{{- define "hatstand.registry.container" -}}
{{- $deploy := .root.Values.registry.deploy -}}
image: {{ include "hatstand.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  - name: HATSTAND_HOME
    value: /var/lib/hatstand
  - name: HATSTAND_REGISTRY
    value: /var/lib/hatstand/registry
  {{- with $deploy.blobs.url }}
  - name: HATSTAND_BLOBS
    value: {{ . | quote }}
  {{- end }}
  {{- with $deploy.database.existingSecret }}
  {{- include "hatstand.secretVariable" (dict "variable" "HATSTAND_DATABASE" "secret" . "key" $deploy.database.secretKey) | nindent 2 }}
  {{- end }}
  {{- if .key }}
  {{- include "hatstand.secretVariable" (dict "variable" "HATSTAND_REGISTRY_KEY" "secret" .root.Values.registry.existingSecret "key" .key) | nindent 2 }}
  {{- end }}
{{- with $deploy.blobs.existingSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
resources: {{- toYaml $deploy.resources | nindent 2 }}
securityContext: {{- include "hatstand.containerSecurityContext" .root | nindent 2 }}
volumeMounts:
  - name: registry
    mountPath: /var/lib/hatstand
  - name: tmp
    mountPath: /tmp
{{- end }}
