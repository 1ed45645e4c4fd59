{{- /* Of the configuration file's volume: what it is made from, or nothing. */}}
{{- define "gateway.configVolume" -}}
{{- if .Values.config.existingSecret }}
secret:
  secretName: {{ .Values.config.existingSecret }}
  defaultMode: 0440
{{- else if .Values.config.existingConfigMap }}
configMap:
  name: {{ .Values.config.existingConfigMap }}
{{- else if .Values.config.content }}
configMap:
  name: {{ include "gateway.fullname" . }}-config
{{- end }}
{{- end }}

{{- define "gateway.stateVolume" -}}
{{- if not (include "gateway.scaledOut" .) }}
persistentVolumeClaim:
  claimName: {{ .Values.state.existingClaim | default (printf "%s-state" (include "gateway.fullname" .)) }}
{{- else if eq .Values.state.scaledOut.kind "ephemeral" }}
ephemeral:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .Values.state.scaledOut.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .Values.state.scaledOut.size }}
{{- else }}
emptyDir:
  sizeLimit: {{ .Values.state.scaledOut.size }}
{{- end }}
{{- end }}

{{- define "gateway.volumes" -}}
- name: state
  {{- include "gateway.stateVolume" . | trim | nindent 2 }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.masterKeys.existingSecret }}
- name: master-keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with include "gateway.configVolume" . }}
- name: config
  {{- . | trim | nindent 2 }}
{{- end }}
{{- if or .Values.catalogue.existingConfigMap .Values.catalogue.content }}
- name: catalogue
  configMap:
    name: {{ .Values.catalogue.existingConfigMap | default (printf "%s-catalogue" (include "gateway.fullname" .)) }}
{{- end }}
{{- range $index, $secret := .Values.config.secrets }}
- name: secret-{{ $index }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gateway.volumeMounts" -}}
- name: state
  mountPath: /var/lib/flxpoint-gateway
- name: tmp
  mountPath: /tmp
{{- if .Values.masterKeys.existingSecret }}
- name: master-keys
  mountPath: /run/flxpoint-gateway/keys
  readOnly: true
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  mountPath: /run/flxpoint-gateway/tls
  readOnly: true
{{- end }}
{{- if include "gateway.configVolume" . }}
- name: config
  mountPath: /run/flxpoint-gateway/config
  readOnly: true
{{- end }}
{{- if or .Values.catalogue.existingConfigMap .Values.catalogue.content }}
- name: catalogue
  mountPath: /run/flxpoint-gateway/catalogue
  readOnly: true
{{- end }}
{{- range $index, $secret := .Values.config.secrets }}
- name: secret-{{ $index }}
  mountPath: /run/flxpoint-gateway/secrets/{{ $secret }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
