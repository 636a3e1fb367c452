{{/* The job document: the template, and what other values decide. What is null keeps radiffuse's default. */}}
{{- define "radiffuse.jobDocument" -}}
{{- $document := dict -}}
{{- range $key, $value := .Values.job.template -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $document $key $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $document "image" (include "radiffuse.image" (dict "root" . "image" .Values.images.train)) -}}
{{- $_ := set $document "image_pull_policy" .Values.images.train.pullPolicy -}}
{{- $_ := set $document "image_pull_secrets" .Values.imagePullSecrets -}}
{{- $_ := set $document "require_digest" .Values.images.requireDigest -}}
{{- $_ := set $document "labels" (merge (dict) ($document.labels | default dict) .Values.commonLabels) -}}
{{- $_ := set $document "store" (include "radiffuse.storeDocument" . | fromYaml) -}}
{{- if and .Values.kueue.localQueue.create (not $document.queue) -}}
{{- $_ := set $document "queue" (include "radiffuse.localQueueName" .) -}}
{{- end -}}
{{- if and .Values.kueue.workloadPriority.create (not $document.workload_priority) -}}
{{- $_ := set $document "workload_priority" (include "radiffuse.workloadPriorityName" .) -}}
{{- end -}}
{{- toYaml $document -}}
{{- end -}}

{{- define "radiffuse.storeDocument" -}}
{{- $store := .Values.store -}}
secret: {{ $store.secret }}
access_key_entry: {{ $store.accessKeyEntry }}
secret_key_entry: {{ $store.secretKeyEntry }}
endpoint_entry: {{ $store.endpointEntry }}
secure_entry: {{ $store.secureEntry }}
{{- with include "radiffuse.storeEndpoint" . }}
endpoint: {{ . | quote }}
{{- end }}
{{- with include "radiffuse.storeSecure" . }}
secure: {{ . }}
{{- end }}
{{- with $store.caSecret }}
ca_secret: {{ . }}
{{- end }}
ca_entry: {{ $store.caEntry }}
{{- end -}}

{{/* Arguments of a verb that takes a configuration, as a JSON list. */}}
{{- define "radiffuse.configArguments" -}}
{{- $arguments := list "--config" (ternary "/etc/radiffuse/config.yaml" .Values.job.config.preset (not (empty .Values.job.config.document))) -}}
{{- range .Values.job.config.overrides -}}
{{- $arguments = concat $arguments (list "--set" .) -}}
{{- end -}}
{{- $arguments | toJson -}}
{{- end -}}

{{/* One container of the launcher's pod. Takes root, name, image, args (JSON), resources, and hasToken and hasData. */}}
{{- define "radiffuse.step" -}}
name: {{ .name }}
image: {{ include "radiffuse.image" (dict "root" .root "image" .image) }}
imagePullPolicy: {{ .image.pullPolicy }}
args: {{ .args }}
env:
  {{- include "radiffuse.storeEnv" (dict "root" .root) | nindent 2 }}
  - name: HOME
    value: /tmp
  - name: RADIFFUSE_CACHE
    value: /tmp/radiffuse
  - name: RADIFFUSE_PROGRESS
    value: lines
  - name: OMP_NUM_THREADS
    valueFrom: {resourceFieldRef: {resource: limits.cpu}}
  {{- if .hasToken }}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- range $name, $value := .root.Values.job.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .root.Values.job.envSecrets }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- include "radiffuse.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: work, mountPath: /work}
  - {name: tmp, mountPath: /tmp}
  - {name: job, mountPath: /etc/radiffuse/job.yaml, subPath: job.yaml, readOnly: true}
  {{- if .root.Values.job.config.document }}
  - {name: job, mountPath: /etc/radiffuse/config.yaml, subPath: config.yaml, readOnly: true}
  {{- end }}
  {{- if .hasData }}
  - {name: data, mountPath: /data, readOnly: true}
  {{- end }}
  {{- if .hasToken }}
  - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- end }}
  {{- with include "radiffuse.storeMounts" .root }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The account's token as a volume, so that only the container that launches has it. */}}
{{- define "radiffuse.tokenVolume" -}}
- name: token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}
