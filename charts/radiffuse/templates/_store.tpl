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

{{/* Variables of a container that speaks with the store. Takes root, and optional where it is to start without them. */}}
{{- define "radiffuse.storeEnv" -}}
{{- $store := .root.Values.store -}}
{{- $optional := .optional | default false -}}
- name: MINIO_ENDPOINT
  {{- with include "radiffuse.storeEndpoint" .root }}
  value: {{ . | quote }}
  {{- else }}
  valueFrom: {secretKeyRef: {name: {{ $store.secret | quote }}, key: {{ $store.endpointEntry | quote }}, optional: {{ $optional }}}}
  {{- end }}
- name: MINIO_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $store.secret | quote }}, key: {{ $store.accessKeyEntry | quote }}, optional: {{ $optional }}}}
- name: MINIO_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ $store.secret | quote }}, key: {{ $store.secretKeyEntry | quote }}, optional: {{ $optional }}}}
- name: MINIO_SECURE
  {{- with include "radiffuse.storeSecure" .root }}
  value: {{ . | quote }}
  {{- else }}
  valueFrom: {secretKeyRef: {name: {{ $store.secret | quote }}, key: {{ $store.secureEntry | quote }}, optional: true}}
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

{{/* Takes root, and optional as above. */}}
{{- define "radiffuse.storeVolumes" -}}
{{- $optional := .optional | default false -}}
{{- $entry := .root.Values.store.caEntry -}}
{{- with .root.Values.store.caSecret }}
- name: store-ca
  secret:
    secretName: {{ . | quote }}
    optional: {{ $optional }}
    items:
      - {key: {{ $entry | quote }}, path: ca.crt}
{{- end }}
{{- end -}}
