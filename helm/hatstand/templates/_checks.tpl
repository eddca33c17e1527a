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
{{- $shared := or .Values.registry.url .Values.registry.deploy.enabled }}
{{- $several := or (gt (int .Values.server.replicas) 1) .Values.autoscaling.kind }}
{{- with .Values.registry }}
{{- if and .url .deploy.enabled }}
{{- fail "registry: registry.url is one registry and registry.deploy.enabled another: give one." }}
{{- end }}
{{- if and $shared (hasKey $.Values.server.options "registry") }}
{{- fail "registry: server.options.registry names another registry: take it away." }}
{{- end }}
{{- if and .deploy.enabled (not .existingSecret) (not $.Values.auth.insecure) }}
{{- fail "registry: a registry that is deployed needs keys. Give registry.existingSecret, a Secret with registry.secretKey and registry.deploy.adminSecretKey." }}
{{- end }}
{{- end }}
{{- if and (gt (int .Values.registry.deploy.replicas) 1) (not (include "hatstand.registry.isStateless" .)) }}
{{- fail "registry.deploy.replicas: several need registry.deploy.database and registry.deploy.blobs, or each would have a registry of its own." }}
{{- end }}
{{- if and $several (not $shared) }}
{{- fail "server.replicas: several servers need a registry that they share: give registry.url or say registry.deploy.enabled=true." }}
{{- end }}
{{- with .Values.training }}
{{- if and .enabled (not $shared) }}
{{- fail "training: a Job can push only to a registry that is not the server's own: give registry.url or say registry.deploy.enabled=true." }}
{{- end }}
{{- if and .enabled (not (and .recipeConfigMap .push)) }}
{{- fail "training: give training.recipeConfigMap and training.push." }}
{{- end }}
{{- end }}
{{- with .Values.worker }}
{{- if and .enabled (not $shared) }}
{{- fail "worker: a worker can push only to a registry that is not the server's own: give registry.url or say registry.deploy.enabled=true." }}
{{- end }}
{{- if and .enabled (not .queue.existingSecret) }}
{{- fail "worker: servers and workers share the queue of jobs: give worker.queue.existingSecret, a Secret with the URL of a PostgreSQL." }}
{{- end }}
{{- if and .enabled (hasKey $.Values.server.options "fine-tuning") }}
{{- fail "worker: with worker.enabled servers take jobs: take server.options.fine-tuning away." }}
{{- end }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas: %d is more than maxReplicas, %d." (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- with .Values.server.rollout }}
{{- if not (or .maxSurge .maxUnavailable) }}
{{- fail "server.rollout: with neither maxSurge nor maxUnavailable no pod could ever be exchanged." }}
{{- end }}
{{- end }}
{{- with .Values.persistence }}
{{- if and .hostPath (or .existingClaim (not .enabled)) }}
{{- fail "persistence.hostPath: a folder of the node takes the place of a claim: take existingClaim away and leave persistence on." }}
{{- end }}
{{- if and .hostPath (not $shared) }}
{{- fail "persistence.hostPath: the server's own registry would be lost with the node: give registry.url or say registry.deploy.enabled=true." }}
{{- end }}
{{- if and $several .enabled (not .hostPath) (ne .accessMode "ReadWriteMany") }}
{{- fail (printf "server.replicas: persistence.accessMode %s lets only one pod mount the volume: use ReadWriteMany, persistence.hostPath or persistence.enabled=false." .accessMode) }}
{{- end }}
{{- if and (eq $.Values.server.strategy "RollingUpdate") .enabled (not .hostPath) (ne .accessMode "ReadWriteMany") }}
{{- fail (printf "server.strategy: RollingUpdate runs two pods for a while, and persistence.accessMode %s lets only one mount the volume: use Recreate or ReadWriteMany." .accessMode) }}
{{- end }}
{{- end }}
{{- with .Values.serviceMonitor }}
{{- if gt (int .timeoutSeconds) (int .intervalSeconds) }}
{{- fail (printf "serviceMonitor.timeoutSeconds: %d is longer than the interval of %d seconds." (int .timeoutSeconds) (int .intervalSeconds)) }}
{{- end }}
{{- end }}
{{- end }}
