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
{{- $_ := set $document "labels" (include "radiffuse.merged" (list $document.labels .Values.commonLabels) | fromYaml) -}}
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
secret: {{ $store.secret | quote }}
access_key_entry: {{ $store.accessKeyEntry | quote }}
secret_key_entry: {{ $store.secretKeyEntry | quote }}
endpoint_entry: {{ $store.endpointEntry | quote }}
secure_entry: {{ $store.secureEntry | quote }}
{{- with include "radiffuse.storeEndpoint" . }}
endpoint: {{ . | quote }}
{{- end }}
{{- with include "radiffuse.storeSecure" . }}
secure: {{ . }}
{{- end }}
{{- with $store.caSecret }}
ca_secret: {{ . | quote }}
{{- end }}
ca_entry: {{ $store.caEntry | quote }}
{{- end -}}

{{/* What each container of the launcher's pod is told, as a map of lists. */}}
{{- define "radiffuse.commands" -}}
{{- $job := .Values.job -}}
{{- $data := $job.data -}}
buckets: [store, init, --wait-seconds=300]
simulate:
  - simulate
  - --out=/steps/cohort
  - --layout={{ $data.layout }}
  - --patients={{ int64 $data.simulated.patients }}
  - --size-px={{ int64 $data.simulated.sizePx }}
  - --seed={{ int64 $data.simulated.seed }}
  - --processes={{ int64 $data.simulated.processes }}
dataset:
  {{- if eq $data.source "stored" }}
  - find
  - {{ $data.stored.uri | quote }}
  - --kind=dataset
  {{- else }}
  - ingest
  - {{ $data.layout }}
  - {{ eq $data.source "simulated" | ternary "--source=/steps/cohort" (printf "--source=/data/%s" $data.claim.path) | quote }}
  {{- include "radiffuse.configArguments" . | nindent 2 }}
  {{- end }}
  - --out=/steps/dataset.json
model: [stage, {{ $job.model | quote }}, --out=/steps/model.json]
encode:
  - encode
  - --dataset=/steps/dataset.json
  - --model=/steps/model.json
  {{- include "radiffuse.configArguments" . | nindent 2 }}
  - --out=/steps/latents.json
launcher:
  - train
  - --job=/etc/radiffuse/job.yaml
  - --data=/steps/{{ ternary "latents" "dataset" $job.encode }}.json
  - --model=/steps/model.json
  {{- include "radiffuse.configArguments" . | nindent 2 }}
  - --out=/steps/adapted.json
  - --summary=/steps/summary.md
{{- end -}}

{{- define "radiffuse.configArguments" -}}
{{- $config := .Values.job.config -}}
- --config={{ ternary "/etc/radiffuse/config.yaml" $config.preset (not (empty $config.document)) }}
{{- range $config.overrides }}
- {{ printf "--set=%s" . | quote }}
{{- end }}
{{- end -}}

{{/* Why the job's processes cannot share the run's batch, which the launcher would refuse once all is prepared. */}}
{{- define "radiffuse.batchProblem" -}}
{{- $config := .Values.job.config -}}
{{- $template := .Values.job.template -}}
{{- $known := .Files.Get "files/batches.yaml" | fromYaml -}}
{{- $batch := dict -}}
{{- if $config.document -}}
{{- $batch = merge $batch ($config.document.train | default dict) $known.document -}}
{{- else if hasKey $known.presets ($config.preset | default "") -}}
{{- $batch = merge $batch (get $known.presets $config.preset) -}}
{{- end -}}
{{- range $override := $config.overrides -}}
{{- range $key := list "total_batch_size" "train_batch_size" -}}
{{- if hasPrefix (printf "train.%s=" $key) $override -}}
{{- $_ := set $batch $key (trimPrefix (printf "train.%s=" $key) $override) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $total := int64 $batch.total_batch_size -}}
{{- $most := int64 $batch.train_batch_size -}}
{{- $each := int64 ($template.processes_per_node | default $template.gpus_per_node) -}}
{{- $all := mul $template.nodes $each -}}
{{- if and $total $most $all -}}
{{- $share := div $total $all -}}
{{- if mod $total $all -}}
{{- $fitting := mul $all (max 1 (div (add $total (div $all 2)) $all)) -}}
job.template.nodes: {{ $template.nodes }} pods of {{ $each }} processes cannot share a batch of {{ $total }} images, train.total_batch_size; change nodes, gpus_per_node or processes_per_node, as the chart's examples/first-run.yaml does, or add train.total_batch_size={{ $fitting }} to job.config.overrides
{{- else if and (gt $share $most) (mod $share $most) -}}
job.config.overrides: each of {{ $all }} processes has {{ $share }} of the {{ $total }} images of a batch, which do not divide into micro-steps of train.train_batch_size {{ $most }}; add train.train_batch_size=N with an N that divides {{ $share }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One container of the launcher's pod. Takes root, name, image, resources, and hasToken and hasData. */}}
{{- define "radiffuse.step" -}}
name: {{ .name }}
image: {{ include "radiffuse.image" (dict "root" .root "image" .image) | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
args:
  {{- get (include "radiffuse.commands" .root | fromYaml) .name | toYaml | nindent 2 }}
env:
  {{- include "radiffuse.storeEnv" (dict "root" .root) | nindent 2 }}
  {{- if not (hasKey .root.Values.job.env "OMP_NUM_THREADS") }}
  - name: OMP_NUM_THREADS
    valueFrom: {resourceFieldRef: {resource: limits.cpu}}
  {{- end }}
  {{- if .hasToken }}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- $own := dict "HOME" "/tmp" "RADIFFUSE_CACHE" "/tmp/radiffuse" "RADIFFUSE_PROGRESS" "lines" }}
  {{- range $name, $value := include "radiffuse.merged" (list .root.Values.job.env $own) | fromYaml }}
  - name: {{ $name | quote }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .root.Values.job.envSecrets }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . | quote }}}
  {{- end }}
{{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- include "radiffuse.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: steps, mountPath: /steps}
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
