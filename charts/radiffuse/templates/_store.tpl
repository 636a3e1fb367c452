{{/* Where the store is: the development store's service, or what the values say; empty: the secret knows. */}}
{{- define "radiffuse.storeEndpoint" -}}
{{- if .Values.devStore.enabled -}}
{{- printf "%s-store.%s.svc:%d" (include "radiffuse.fullname" .) .Release.Namespace (int .Values.devStore.port) -}}
{{- else -}}
{{- .Values.store.endpoint | default "" -}}
{{- end -}}
{{- end -}}

{{/* "true", "false", or empty: the secret knows. */}}
{{- define "radiffuse.storeSecure" -}}
{{- if .Values.devStore.enabled -}}
false
{{- else if kindIs "bool" .Values.store.secure -}}
{{- .Values.store.secure -}}
{{- end -}}
{{- end -}}

{{/* Variables of a container that speaks with the store. */}}
{{- define "radiffuse.storeEnv" -}}
{{- $store := .Values.store -}}
- name: MINIO_ENDPOINT
  {{- with include "radiffuse.storeEndpoint" . }}
  value: {{ . | quote }}
  {{- else }}
  valueFrom: {secretKeyRef: {name: {{ $store.secret }}, key: {{ $store.endpointEntry }}}}
  {{- end }}
- name: MINIO_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $store.secret }}, key: {{ $store.accessKeyEntry }}}}
- name: MINIO_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ $store.secret }}, key: {{ $store.secretKeyEntry }}}}
- name: MINIO_SECURE
  {{- with include "radiffuse.storeSecure" . }}
  value: {{ . | quote }}
  {{- else }}
  valueFrom: {secretKeyRef: {name: {{ $store.secret }}, key: {{ $store.secureEntry }}, optional: true}}
  {{- end }}
{{- if $store.caSecret }}
- name: MINIO_CA_CERT
  value: /etc/radiffuse/ca/ca.crt
{{- end }}
{{- end -}}

{{- define "radiffuse.storeMounts" -}}
{{- if .Values.store.caSecret }}
- name: store-ca
  mountPath: /etc/radiffuse/ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "radiffuse.storeVolumes" -}}
{{- with .Values.store.caSecret }}
- name: store-ca
  secret:
    secretName: {{ . }}
    items:
      - {key: {{ $.Values.store.caEntry }}, path: ca.crt}
{{- end }}
{{- end -}}
