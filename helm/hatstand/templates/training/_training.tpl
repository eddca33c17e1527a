{{/* What every container that trains shares, the worker's too. Takes (dict "root" $ "recipe" true). */}}
{{- define "hatstand.training.container" -}}
image: {{ include "hatstand.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ include "hatstand.fullname" .root }}
securityContext: {{- include "hatstand.containerSecurityContext" .root | nindent 2 }}
volumeMounts:
  - name: cache
    mountPath: /var/lib/hatstand
  - name: tmp
    mountPath: /tmp
  {{- if .recipe }}
  - name: recipe
    mountPath: /recipe
    readOnly: true
  - name: shm
    mountPath: /dev/shm
  {{- end }}
{{- end }}

{{/* The beginning of a pod that trains. */}}
{{- define "hatstand.training.pod" -}}
serviceAccountName: {{ include "hatstand.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.server.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
securityContext: {{- include "hatstand.podSecurityContext" . | nindent 2 }}
{{- with .Values.server.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "hatstand.tolerations" . }}
tolerations: {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Brings the base. Takes (dict "root" $ "recipe" … "resources" …). */}}
{{- define "hatstand.training.pull" -}}
- name: pull-base
  args: [base, pull, {{ .root.Values.base.name | quote }}]
  {{- include "hatstand.training.container" . | nindent 2 }}
  resources: {{- toYaml .resources | nindent 4 }}
  {{- with .root.Values.hub.existingSecret }}
  env: {{- include "hatstand.secretVariable" (dict "variable" "HF_TOKEN" "secret" . "key" $.root.Values.hub.secretKey) | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Where the base and checkpoints lie, and /tmp. */}}
{{- define "hatstand.training.volumes" -}}
- name: cache
  {{- if .Values.persistence.hostPath }}
  hostPath:
    path: {{ .Values.persistence.hostPath }}
    type: Directory
  {{- else }}
  # The servers' claim may be theirs alone.
  emptyDir:
    sizeLimit: {{ .Values.persistence.size }}
  {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.server.tmpSize }}
{{- end }}

{{/* What is trained, from where and to where. */}}
{{- define "hatstand.training.args" -}}
- train
- /recipe/recipe.yaml
- --set=output=/var/lib/hatstand/runs/{{ .Values.training.push | replace "@" "-" }}
- --push={{ .Values.training.push }}
- --registry={{ include "hatstand.registryUrl" . }}
{{- end }}

{{/* A Job cannot change: another recipe or target is another Job. */}}
{{- define "hatstand.training.suffix" -}}
train-{{ toJson (list .Values.training .Values.base .Values.image) | sha256sum | trunc 8 }}
{{- end }}

{{/* Room for "-node-0-0" and what Kubernetes adds, within the 63 characters of a host name. */}}
{{- define "hatstand.training.jobSet" -}}
{{ include "hatstand.fullname" . | trunc 30 | trimSuffix "-" }}-{{ include "hatstand.training.suffix" . }}
{{- end }}

{{/* A pod of the Job, or of each node of the JobSet. */}}
{{- define "hatstand.training.spec" -}}
restartPolicy: Never
{{ include "hatstand.training.pod" . }}
{{- with .Values.training }}
{{- $container := dict "root" $ "recipe" true "resources" .resources }}
{{- if $.Values.base.pull }}
initContainers: {{- include "hatstand.training.pull" $container | nindent 2 }}
{{- end }}
containers:
  - name: train
    {{- if gt (int .nodes) 1 }}
    command: [torchrun]
    args:
      - --nnodes={{ .nodes }}
      - --nproc-per-node={{ ternary .gpusPerNode 1 $.Values.server.gpu.enabled }}
      - --node-rank=$(JOB_COMPLETION_INDEX)
      - --rdzv-id={{ include "hatstand.training.jobSet" $ }}
      - --rdzv-backend=c10d
      - --rdzv-endpoint={{ include "hatstand.training.jobSet" $ }}-node-0-0.{{ include "hatstand.training.jobSet" $ }}:29500
      - -m
      - clients
      {{- include "hatstand.training.args" $ | nindent 6 }}
    {{- else }}
    args: {{- include "hatstand.training.args" $ | nindent 6 }}
    {{- end }}
    {{- include "hatstand.training.container" $container | nindent 4 }}
    resources: {{- include "hatstand.withGpu" (dict "root" $ "resources" .resources "count" (ternary .gpusPerNode 1 (gt (int .nodes) 1))) | nindent 6 }}
    {{- if .existingSecret }}
    env: {{- include "hatstand.secretVariable" (dict "variable" "HATSTAND_REGISTRY_KEY" "secret" .existingSecret "key" .secretKey) | nindent 6 }}
    {{- end }}
volumes:
  {{- include "hatstand.training.volumes" $ | nindent 2 }}
  # Loaders and NCCL pass tensors between processes here; it counts as the pod's memory.
  - name: shm
    emptyDir:
      medium: Memory
  - name: recipe
    configMap:
      name: {{ .recipeConfigMap }}
{{- end }}
{{- end }}
