{{/* Names: of the chart, of what a release makes, and of what it makes in a namespace that it shares with others. */}}
{{- define "radiffuse.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "radiffuse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "radiffuse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "radiffuse.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of objects without a namespace, and of those in a namespace that is not the release's. */}}
{{- define "radiffuse.sharedName" -}}
{{- printf "%s-%s" .Release.Namespace (include "radiffuse.fullname" .) -}}
{{- end -}}

{{/* Takes root and namespace. */}}
{{- define "radiffuse.nameIn" -}}
{{- if eq .namespace .root.Release.Namespace -}}
{{- include "radiffuse.fullname" .root -}}
{{- else -}}
{{- include "radiffuse.sharedName" .root -}}
{{- end -}}
{{- end -}}

{{- define "radiffuse.serviceAccountName" -}}
{{- $given := .Values.serviceAccount.name -}}
{{- if .Values.serviceAccount.create -}}
{{- $given | default (include "radiffuse.fullname" .) -}}
{{- else -}}
{{- $given | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Takes root and, of pods, component. */}}
{{- define "radiffuse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "radiffuse.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Takes maps, and makes one: the first that has a key says its value, an empty one too, which `merge` would pass over. */}}
{{- define "radiffuse.merged" -}}
{{- $merged := dict -}}
{{- range $map := . -}}
{{- range $key, $value := $map -}}
{{- if not (hasKey $merged $key) -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/* Takes root, namespace where it is not the release's, name, component of pods, labels and annotations. */}}
{{- define "radiffuse.metadata" -}}
name: {{ .name | quote }}
{{- if not .clusterWide }}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
{{- end }}
labels:
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
  {{- include "radiffuse.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  app.kubernetes.io/part-of: radiffuse
  {{- with include "radiffuse.merged" (list .labels .root.Values.commonLabels) | fromYaml }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with include "radiffuse.merged" (list .annotations .root.Values.commonAnnotations) | fromYaml }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels of training pods, which radiffuse itself writes (cluster/pod.py), whatever the chart is called. */}}
{{- define "radiffuse.trainingLabels" -}}
app.kubernetes.io/name: radiffuse
app.kubernetes.io/managed-by: radiffuse
{{- end -}}

{{/* Takes root and image. */}}
{{- define "radiffuse.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "radiffuse.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Namespaces where jobs are launched, as a JSON list: the release's, and those of Kubeflow Pipelines' steps. */}}
{{- define "radiffuse.jobNamespaces" -}}
{{- $namespaces := list .Release.Namespace -}}
{{- if eq .Values.kfp.mode "standalone" -}}
{{- $namespaces = append $namespaces .Values.kfp.namespace -}}
{{- else if eq .Values.kfp.mode "multiUser" -}}
{{- $namespaces = concat $namespaces .Values.kfp.profiles -}}
{{- end -}}
{{- $namespaces | uniq | toJson -}}
{{- end -}}

{{/* Takes a `scheduling` section. */}}
{{- define "radiffuse.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Restricted Pod Security, of a pod and of its containers. Takes the numeric user. */}}
{{- define "radiffuse.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . | default 20002 | int64 }}
runAsGroup: {{ . | default 20002 | int64 }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "radiffuse.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}
