{{/* What the Job's containers share. */}}
{{- define "hatstand.training.container" -}}
image: {{ include "hatstand.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ include "hatstand.fullname" . }}
securityContext: {{- include "hatstand.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  - name: cache
    mountPath: /var/lib/hatstand
  - name: tmp
    mountPath: /tmp
  - name: recipe
    mountPath: /recipe
    readOnly: true
{{- end }}
